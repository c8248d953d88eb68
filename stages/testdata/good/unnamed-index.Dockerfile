FROM debian:12
RUN apt-get update
FROM debian:12
COPY --from=0 /etc/apt /apt
FROM scratch
COPY --from=1 /apt /a
COPY --from=0 /etc /b
COPY --from=busybox:1.36 /bin/busybox /bin/
RUN --mount=type=bind,from=alpine:3.20,source=/,target=/alpine ["/bin/busybox", "true"]
