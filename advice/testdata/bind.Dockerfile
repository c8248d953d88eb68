FROM node AS a
RUN --mount=type=bind,target=/root/.npm npm ci
RUN --mount=type=tmpfs,target=/root npm ci
RUN --mount=type=cache,target=/root/.npm/_cacache npm ci
RUN --mount=type=cache,target=/elsewhere npm ci
RUN --mount=type=cache,target=${NPM} npm ci
