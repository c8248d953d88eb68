ARG VERSION=1
FROM alpine:${VERSION} AS a
ARG A=1 \
    # of b
    B="two words" \
    C
ENV D=$A \
    E="$B and $C"
LABEL x=$D
RUN x
FROM a
ARG VERSION
ENV LEGACY some value here
RUN y
