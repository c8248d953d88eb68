# syntax=docker/dockerfile:1
FROM node:22-slim AS deps
ARG NPM_TOKEN
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN --mount=type=cache,target=/root/.npm npm ci
FROM deps AS test
COPY . .
RUN npm test
FROM deps AS build
COPY . .
RUN npm run build && npm prune --omit=dev
FROM node:22-slim
COPY --from=build /app /app
USER node
ENTRYPOINT ["node", "/app/server.js"]
