FROM golang:1.25 AS build
WORKDIR /src
COPY go.* ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -o /app ./cmd/app
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/go/pkg/mod go test ./...
RUN --mount=type=cache,target=/root/.cache/go-build go vet ./...
RUN go env && go version

FROM golang:1.25 AS made
RUN go mod download
RUN make

FROM golang:1.25 AS runs
RUN go build ./...
CMD ["go", "run", "."]

FROM golang:1.25 AS copied
RUN go mod download
FROM debian
COPY --from=copied /go /go

FROM golang:1.25 AS own
ENV GOMODCACHE=/m GOCACHE=/c
RUN go build && go clean -modcache

FROM debian AS distribution
RUN go build ./...
USER 1000
RUN go build ./...
ENV HOME=/home/x
RUN go build ./...

FROM golang AS nobody
USER 65534
RUN go build
