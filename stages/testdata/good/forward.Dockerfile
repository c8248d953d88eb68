FROM alpine AS early
COPY --from=late / /
FROM alpine AS sound
RUN true
FROM early AS above
RUN true
FROM alpine AS late
RUN true
FROM sound
