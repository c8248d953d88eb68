# syntax=docker/dockerfile:1
FROM alpine
ARG TOKEN=x
RUN open \
