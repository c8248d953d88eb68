# check=error=true
from python:3.13-slim as base
run pip install --no-cache-dir uv
from base as api
workdir /api
copy api/pyproject.toml .
run uv sync
from base as worker
add https://example.com/model.bin /model.bin
run uv sync --extra worker
from base as lint
run ruff check
from api
copy --from=worker /model.bin /model.bin
expose 8080
user nobody
# the end, without a newline