ARG TAG
FROM alpine:${TAG:?missing}
