# syntax=docker/dockerfile:1
FROM node:22-slim AS base
ENV PNPM_HOME=/pnpm PATH=/pnpm:$PATH
RUN <<EOF
#!/bin/sh
set -eu
# FROM here is no stage
FROM=nothing
echo "FROM scratch" > /note
EOF
COPY <<-"one" <<two /conf/
	FROM heredoc AS nostage
	one
one
FROM second AS nostage
two
FROM base AS build
COPY package.json pnpm-lock.yaml ./
RUN --mount=type=cache,id=pnpm,target=/pnpm/store,sharing=locked pnpm install --frozen-lockfile
COPY . .
RUN pnpm build

FROM base
COPY --link --from=build /app/dist /app/dist
HEALTHCHECK --interval=5s CMD curl -f http://localhost/ || exit 1
CMD ["node", "/app/dist/server.js"]
