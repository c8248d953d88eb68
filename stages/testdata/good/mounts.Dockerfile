FROM alpine AS seed
RUN mkdir /cache && touch /cache/warm
FROM alpine AS tools
RUN apk add jq
FROM alpine AS secret
RUN --mount=type=secret,id=token,env=TOKEN --mount=type=ssh true
FROM alpine
RUN --mount=type=cache,from=seed,source=/cache,target=/var/cache \
    --mount=from=Tools,target=/tools \
    --mount=type=tmpfs,target=/tmp \
    --mount=type=bind,target=/ctx \
    /tools/usr/bin/jq --version
RUN --mount=from=0,target=/is-an-image-here true
