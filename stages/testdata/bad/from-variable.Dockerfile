FROM alpine

COPY --from=$STAGE / /
