FROM alpine AS deps
RUN apk add build-base
FROM deps AS build
COPY --from=deps / /d
COPY --from=assets / /assets
RUN --mount=from=ghcr.io/acme/tools:latest,target=/t make
FROM base
COPY --from=build /out /
COPY --from=deps /etc /etc
