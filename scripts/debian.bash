# Functions around Debian's packages, to be sourced.
# shellcheck shell=bash

# apt_get runs apt-get, and once more with up-to-date lists if that failed: a
# new machine has no lists, an old one may name versions that are gone.
apt_get() {
	apt-get -q -o APT::Sandbox::User=root "$@" >&2 || {
		apt-get -q update >&2
		apt-get -q -o APT::Sandbox::User=root "$@" >&2
	}
}

# install_missing COMMAND=PACKAGE... installs the packages of the commands that
# this machine lacks.
install_missing() {
	local pair missing=()
	for pair; do
		command -v "${pair%=*}" >/dev/null || missing+=("${pair#*=}")
	done
	if ((${#missing[@]})); then
		DEBIAN_FRONTEND=noninteractive apt_get install --yes --no-install-recommends "${missing[@]}"
	fi
}

# extract_packages DIRECTORY PACKAGE... unpacks packages there and installs
# none of them: no service is started, nothing that is installed is replaced.
extract_packages() {
	local directory=$1 downloads package
	shift
	downloads=$(mktemp -d)
	(cd "$downloads" && apt_get download "$@")
	for package in "$downloads"/*.deb; do
		dpkg -x "$package" "$directory"
	done
	rm -rf "$downloads"
}
