#!/usr/bin/env -S docker buildx build -f
FROM alpine
RUN printf "[31mredÿ"
