FROM debian:12 AS plain
RUN apt-get update && apt-get install -y --no-install-recommends curl \
  && rm -rf /var/lib/apt/lists/*
RUN apt-get update && apt install -y git

FROM debian:12 AS split
RUN apt-get update
RUN apt-get install -y curl

FROM debian:12 AS relied
RUN apt-get update && apt-get install -y curl
RUN apt-get install -y git

FROM debian:12 AS cleaned
RUN apt-get update && apt-get -y install curl && apt-get clean && rm -rf /var/lib/apt/lists /var/cache/apt/archives/*

FROM ubuntu AS settled
RUN rm -f /etc/apt/apt.conf.d/docker-clean
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get install -y curl

FROM ubuntu AS forgotten
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get install -y curl

FROM plain AS inherits
USER app
RUN sudo apt-get update && sudo apt-get install -y vim
RUN ["apt-get", "install", "-y", "gcc"]
RUN apt-get update
RUN apt-get upgrade $FLAGS && apt-cache search x
