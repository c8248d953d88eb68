FROM node AS assets
RUN make assets
FROM alpine AS lib
RUN make lib
FROM alpine AS template
ONBUILD COPY --from=assets /out /assets
ONBUILD RUN --mount=from=lib,target=/lib install /lib
ONBUILD COPY --from=ghcr.io/acme/certs:2 / /certs
FROM template AS app
RUN make app
FROM app AS child-of-app
RUN echo the triggers are not run again
FROM scratch AS unrelated
COPY . /
