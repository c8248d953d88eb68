FROM golang AS golang
RUN go version
FROM alpine AS debian
RUN echo this is alpine
FROM debian AS final
COPY --from=golang /usr/local/go /go
COPY --from=GOLANG /usr/local/go /go2
