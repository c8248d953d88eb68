ARG REGISTRY=docker.io
ARG FLAVOUR
ARG VERSION="3.20" NAME=alpine
ARG IMAGE=${REGISTRY}/library/${NAME}:${VERSION}
ARG LAST=${FLAVOUR:-stable}
FROM ${IMAGE} AS stable
RUN echo stable
FROM ${IMAGE}-edge AS edge
RUN echo edge
FROM ${LAST} AS final
ARG VERSION
RUN echo $VERSION
FROM "quoted/image":${VERSION//./-}
