# Which steps share a cache mount
ARG ROOT=/var/cache
ARG TEAM=blue

FROM debian AS deps
ARG ROOT
ENV KIND=go SUB=${ROOT}/lib
RUN --mount=type=cache,target=/root/.cache --mount=type=bind,target=/src true
RUN --mount=type=cache,id=/root/.cache,target=/elsewhere,sharing=locked true
RUN --mount=type=cache,target=/root//x/../.cache,readonly true
RUN --mount=type=cache,target=${SUB}/apt,id=$KIND-${TEAM:-none} true
RUN --mount=type=cache,dst=rel/dir,sharing=private true
RUN --mount=type=cache,target=/owned,uid=1000 true
RUN --mount=type=cache,target=/owned,uid=1000,gid=0,mode=0755 true
RUN --mount=type=cache,target=/owned,gid=7,mode=700 true
RUN --mount=type=cache,target=/owned true

FROM deps AS build
ARG TEAM
ARG FLAVOUR=plain
RUN --mount=type=cache,target=/b,id=$KIND-$TEAM-$FLAVOUR true
RUN --mount=type=cache,target=/b,from=deps true
RUN --mount=type=cache,target=/b,from=Deps,source=/root --mount=type=cache,target=/c,from=scratch true
RUN --mount=type=cache,target=/b,source=sub,uid=5 true
RUN --mount=type=${NONE:-cache},target=/d,id=$UNSET true
RUN --mount=type=cache,target=/e,uid=$UNSET true
RUN --mount=type=cache true
ONBUILD RUN --mount=type=cache,target=/later true
