FROM alpine AS a
COPY --from=c / /
FROM alpine AS b
COPY --from=a / /
FROM alpine AS c
COPY --from=b / /
