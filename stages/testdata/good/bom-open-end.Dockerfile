# syntax=docker/dockerfile:1
FROM alpine AS bom
RUN true \
