# syntax=docker/dockerfile:1.7
ARG GO_VERSION=1.26
ARG BASE=gcr.io/distroless/static-debian12

FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-bookworm AS deps
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download

FROM deps AS builder
ARG TARGETOS TARGETARCH
COPY . .
# The linker flags keep the binary small.
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    # a comment inside a continuation

    go build -trimpath -ldflags "-s -w" -o /out/app ./cmd/app

FROM builder AS test
RUN go test ./...

FROM ${BASE}:nonroot
LABEL org.opencontainers.image.title="app"
COPY --from=builder --chown=65532:65532 /out/app /app
USER 65532
ENTRYPOINT ["/app"]
