FROM node:22 AS deps
WORKDIR /app
COPY package*.json ./
RUN npm ci --omit=dev
RUN npm --prefix web install && npm cache clean --force
RUN npm run build
RUN npx -y create-thing
RUN NPM_CONFIG_CACHE=/n npm ci
RUN npm ci --cache /tmp/n
RUN yarn install --frozen-lockfile && yarn build
RUN yarn --version
RUN corepack enable && corepack pnpm install
RUN <<EOF
set -e
npm ci
yarn
EOF

FROM node:22
USER node
RUN npm ci
RUN yarn
ENV PNPM_HOME=/pnpm YARN_CACHE_FOLDER=/y
RUN pnpm fetch --prod && yarn add x
RUN npm ci && (cd web && npm ci)
