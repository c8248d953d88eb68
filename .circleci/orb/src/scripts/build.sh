#!/usr/bin/env bash
# Builds with what the parameters say, on CircleCI and on Azure Pipelines. No
# parameter is run as a command. Variables in them are expanded by Azure
# beforehand, on CircleCI by circleci env subst.
set -euo pipefail

expand() {
	if [[ $1 == *'$'* ]] && command -v circleci >/dev/null; then
		circleci env subst "$1"
	else
		printf '%s' "$1"
	fi
}

args=()

# option adds --NAME=VALUE for a parameter that is given.
option() {
	local value
	value=$(expand "$2")
	[[ -z $value ]] || args+=("--$1=$value")
}

# branch adds --NAME=VALUE for a branch as it is: strangers name branches, and
# ${NPM_TOKEN} is a good name. An empty value of the pipeline arrives as <nil>.
branch() {
	[[ -z $2 || $2 == '<nil>' ]] || args+=("--$1=$2")
}

# each adds --NAME=LINE for every line of a parameter.
each() {
	local line lines
	lines=$(expand "$2")
	while IFS= read -r line; do
		line=${line%$'\r'}
		[[ -z ${line//[[:space:]]/} ]] || args+=("${1:+--$1=}$line")
	done <<<"$lines"
}

# given_secrets prints the secrets but for those whose variable holds nothing,
# as in a fork's pull request. To Azure an unknown variable is the text $(NAME).
given_secrets() {
	local line name value
	while IFS= read -r line; do
		if [[ $line =~ (^|,)env=([A-Za-z_][A-Za-z0-9_]*)(,|$) ]]; then
			name=${BASH_REMATCH[2]}
			value=${!name-}
			if [[ -z $value || $value == "\$("*")" ]]; then
				echo "warning: $name is not set: building without that secret" >&2
				continue
			fi
		fi
		printf '%s\n' "$line"
	done <<<"$PARAM_SECRETS"
}

# given_volatile leaves out values that are the text $(NAME).
given_volatile() {
	local line
	while IFS= read -r line; do
		if [[ $line == *"=\$("*")" ]]; then
			echo "warning: the value of ${line%%=*} is not set: building without it" >&2
			line=${line%%=*}
		fi
		printf '%s\n' "$line"
	done <<<"$1"
}

option file "$PARAM_FILE"
option target "$PARAM_TARGET"
option platform "$PARAM_PLATFORM"
option push "$PARAM_PUSH"
option cache-repo "$PARAM_CACHE_REPO"
option cache-scope "$PARAM_CACHE_SCOPE"
option cache-save "$PARAM_CACHE_SAVE"
branch branch "$PARAM_BRANCH"
branch base-branch "$PARAM_BASE_BRANCH"
default_branch=$PARAM_DEFAULT_BRANCH
if [[ -z $default_branch && ${PIPELINE_BRANCH_IS_DEFAULT-} == true ]]; then
	default_branch=${CIRCLE_BRANCH-}
fi
branch default-branch "$default_branch"
each tag "$PARAM_TAGS"
each build-arg "$PARAM_BUILD_ARGS"
each secret "$(given_secrets)"
# By variable: what is an argument, every process of the machine can read.
volatile=$(given_volatile "$(expand "$PARAM_VOLATILE_ARGS")")
[[ -z $volatile ]] || export DOCKER_BUILD_REMOTE_CACHE_VOLATILE_ARG=$volatile
each '' "$PARAM_EXTRA_ARGS"

# For save.sh, in the steps after this one.
state=$(mktemp -d "${AGENT_TEMPDIRECTORY:-${TMPDIR:-/tmp}}/remote-cache.XXXXXX")/state.json
export DOCKER_BUILD_REMOTE_CACHE_STATE=$state
if [[ -n ${TF_BUILD-} ]]; then
	echo "##vso[task.setvariable variable=DOCKER_BUILD_REMOTE_CACHE_STATE]$state"
elif [[ -n ${BASH_ENV-} ]]; then
	printf 'export DOCKER_BUILD_REMOTE_CACHE_STATE=%q\n' "$state" >>"$BASH_ENV"
fi

# exec: signals reach the program, not this shell.
exec docker-build-remote-cache "${args[@]}" -- "$(expand "$PARAM_IMAGE")" "$(expand "$PARAM_PATH")"
