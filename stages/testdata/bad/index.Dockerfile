FROM alpine
COPY --from=1 / /
