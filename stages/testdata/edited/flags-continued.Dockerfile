FROM debian
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    --network=default \
    apt-get update && \
    apt-get install -y curl
RUN \
    --mount=type=bind,source=.,target=/src \
    # why: the tests need it
    --security=insecure \

    make -C /src
RUN --mount="type=cache,target=/a b" --mount='type=tmpfs,target=/c' echo "--mount=no flag"
RUN --mount=type=ssh -- git clone x
