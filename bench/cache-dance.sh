#!/usr/bin/env bash
# What people use today to keep a cache mount: the method that the README of
# reproducible-containers/buildkit-cache-dance documents. A build copies a
# directory of the runner into the mount; a second one copies the mount into an
# image, from which it is copied out. That the directory itself must be kept, by
# actions/cache or the like, is not measured here. bench/ measures the rest.
set -euo pipefail

if (($# != 4)); then
	echo "usage: bench/cache-dance.sh inject|extract DIRECTORY MOUNT-OPTIONS BASE" >&2
	exit 64
fi
directory=$2
mount=$3
base=$4
target=${mount##*target=}
target=${target%%,*}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

case $1 in
inject)
	date --iso-8601=ns >"$directory/buildstamp"
	cat >"$scratch/Dancefile" <<-END
		FROM $base
		COPY buildstamp buildstamp
		RUN --mount=$mount --mount=type=bind,source=.,target=/var/dance-cache cp -p -R /var/dance-cache/. $target
	END
	docker buildx build --builder testbed --file "$scratch/Dancefile" "$directory"
	;;
extract)
	mkdir "$scratch/context"
	date --iso-8601=ns >"$scratch/context/buildstamp"
	cat >"$scratch/Dancefile" <<-END
		FROM $base
		COPY buildstamp buildstamp
		RUN --mount=$mount mkdir -p /var/dance-cache/ && cp -p -R $target/. /var/dance-cache/
	END
	docker buildx build --builder testbed --file "$scratch/Dancefile" --tag dance:extract --load "$scratch/context"
	docker rm --force dance >/dev/null 2>&1 || true
	docker create --name dance dance:extract
	docker cp --follow-link dance:/var/dance-cache - | tar -x -C "$scratch"
	docker rm dance
	rm -rf "$directory"
	mv "$scratch/dance-cache" "$directory"
	;;
esac
