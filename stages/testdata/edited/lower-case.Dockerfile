from alpine as base
arg token
env a=b
run --mount=type=cache,target=/c apk add curl
from base
Run mixed
copy --from=base / /
