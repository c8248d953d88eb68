# syntax=docker/dockerfile:1
from node:22 as a
run --network=default \
    # a comment
    npm ci && \
    npm test
run <<EOF
#!/usr/bin/env bash
pip install x
EOF
run bash <<EOF
composer install
EOF
run ["npm", "ci"]
