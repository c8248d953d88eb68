#!/usr/bin/env bash
# The recipe that this project automates, as its article tells it ("Caching
# Docker Layers on CI", 17 October 2019), for the classic builder: pull the last
# images of the branch, else of master, else of any branch; build both stages
# from them; push both from an exit trap, under the branch and without a prefix.
# bench/ measures it.
set -euo pipefail

if (($# < 2)); then
	echo "usage: bench/recipe.sh [REGISTRY/]NAME:TAG BRANCH [DOCKER BUILD OPTION...] PATH" >&2
	exit 64
fi
image=$1
base=${image%:*}
branch=$2
shift 2

# pull REMOTE LOCAL pulls an image and gives it a local name.
pull() {
	docker pull --quiet "$1" && docker tag "$1" "$2"
}

# push LOCAL REMOTE gives an image a remote name and pushes it.
push() {
	docker tag "$1" "$2" && docker push --quiet "$2"
}

# load_cache pulls both stages of one level, the first that has both.
load_cache() {
	local prefix
	for prefix in "$branch" master ""; do
		pull "$base:${prefix:+$prefix-}builder" "$base:builder" &&
			pull "$base:${prefix:-latest}" "$base:latest" &&
			return
	done
	echo "recipe: no cache" >&2
}

save_cache() {
	local prefix
	for prefix in "$branch" ""; do
		push "$base:builder" "$base:${prefix:+$prefix-}builder" || true
		push "$base:latest" "$base:${prefix:-latest}" || true
	done
}

load_cache
trap save_cache EXIT
docker build --tag "$base:builder" --target builder --cache-from "$base:builder" "$@"
docker build --tag "$base:latest" --cache-from "$base:builder" --cache-from "$base:latest" "$@"
push "$base:latest" "$image"
