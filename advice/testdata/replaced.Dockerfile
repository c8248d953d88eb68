ARG BASE=golang
FROM ${BASE}:1.25 AS build
ARG CACHE=/x
ENV GOCACHE=$CACHE/go GOMODCACHE=$UNSET/mod
RUN go build
FROM build AS deeper
RUN go build
