#!/usr/bin/env bash
# Installs the released program, unless one is there.
set -euo pipefail

program=docker-build-remote-cache
# scripts/pin-release writes these for a release: SHA-256 of each binary.
version=
checksums='
'

if command -v "$program" >/dev/null; then
	"$program" --version
	exit
fi
case $(uname -s) in
Linux) system=linux ;;
Darwin) system=darwin ;;
*) system=$(uname -s) ;;
esac
case $(uname -m) in
x86_64) machine=amd64 ;;
aarch64 | arm64) machine=arm64 ;;
*) machine=$(uname -m) ;;
esac
checksum=$(awk -v platform="${system}_$machine" '$2 == platform { print $1 }' <<<"$checksums")
if [[ -z $checksum ]]; then
	echo "error: no release of $program for ${system}_$machine is pinned here" >&2
	echo "hint: use a released version of this file, or put $program into PATH first" >&2
	exit 1
fi

base=${REMOTE_CACHE_DOWNLOAD:-https://github.com/$program/$program/releases/download}
url=$base/v$version/${program}_${system}_$machine.gz
directory=${REMOTE_CACHE_INSTALL_DIR:-$HOME/.local/share/$program/$version}
mkdir -p "$directory"
partial=$(mktemp "$directory/partial.XXXXXX")
trap 'rm -f "$partial"' EXIT
curl --fail --silent --show-error --location --retry 5 --retry-connrefused --max-time 300 "$url" | gzip --decompress >"$partial"
if command -v sha256sum >/dev/null; then
	actual=$(sha256sum <"$partial")
else
	actual=$(shasum -a 256 <"$partial")
fi
if [[ ${actual%% *} != "$checksum" ]]; then
	echo "error: the SHA-256 of $url is ${actual%% *}, and $checksum was released" >&2
	exit 1
fi
chmod 755 "$partial"
mv "$partial" "$directory/$program"

# For the steps that follow, as each platform hands a PATH on.
if [[ -n ${TF_BUILD-} ]]; then
	echo "##vso[task.prependpath]$directory"
elif [[ -n ${BASH_ENV-} ]]; then
	echo "export PATH=$(printf %q "$directory"):\$PATH" >>"$BASH_ENV"
fi
"$directory/$program" --version
