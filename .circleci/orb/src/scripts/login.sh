#!/usr/bin/env bash
# Logs in with a name and a password from variables, whose names are given.
set -euo pipefail

username=${!PARAM_USERNAME-}
password=${!PARAM_PASSWORD-}
if [[ -z $username || -z $password ]]; then
	echo "warning: $PARAM_USERNAME or $PARAM_PASSWORD is not set: going on without a login, as for a fork"
	exit
fi
docker login --username "$username" --password-stdin ${PARAM_REGISTRY:+"$PARAM_REGISTRY"} <<<"$password"
