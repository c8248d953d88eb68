#!/usr/bin/env bash
# Saves what a build that was cut short left on the engine.
set -euo pipefail

state=${DOCKER_BUILD_REMOTE_CACHE_STATE-}
if [[ -z $state || ! -f $state ]]; then
	echo "nothing to save"
	exit
fi
exec docker-build-remote-cache save --state="$state" --timeout=4m
