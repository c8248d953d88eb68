# check=error=true
FROM alpine AS base
# TOKEN opens the index
ARG TOKEN
# hadolint ignore=DL3018
RUN apk add curl

# the build of it all
FROM base AS build
RUN make
