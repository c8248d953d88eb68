FROM --platform=$BUILDPLATFORM tonistiigi/xx AS xx
FROM --platform=${BUILDPLATFORM} golang-${TARGETOS}-${TARGETARCH}${TARGETVARIANT:+-}${TARGETVARIANT} AS build
COPY --from=xx / /
FROM --platform=linux/amd64 base-$TARGETSTAGE AS release
COPY --from=build /out /
