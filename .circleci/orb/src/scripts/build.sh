#!/usr/bin/env bash
# Builds with what the parameters say, on CircleCI and on Azure Pipelines. No
# parameter is run as a command. Variables in them are expanded by Azure
# beforehand, on CircleCI by circleci env subst.
set -euo pipefail

# expand reads no argument of its own: circleci takes a text that begins with a
# dash for an option.
expand() {
	if [[ $1 == *'$'* ]] && command -v circleci >/dev/null; then
		printf '%s' "$1" | circleci env subst
	else
		printf '%s' "$1"
	fi
}

# trim prints a line without the white space around it.
trim() {
	local line=${1#"${1%%[![:space:]]*}"}
	printf '%s' "${line%"${line##*[![:space:]]}"}"
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

# each adds --NAME=LINE for every line of a parameter. What is a line is told
# before variables are expanded: of a value of several lines, such as a commit's
# message, none is an option.
each() {
	local line value
	while IFS= read -r line; do
		line=$(trim "$line")
		value=$(expand "$line")
		[[ -z $value ]] || args+=("${1:+--$1=}$value")
	done <<<"$2"
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

# volatile_args sets volatile to the lines of a parameter. Values that are the
# text $(NAME) are left out.
volatile_args() {
	local line value
	while IFS= read -r line; do
		line=$(trim "$line")
		value=$(expand "$line")
		if [[ $value == *$'\n'* ]]; then
			echo "error: the value of ${value%%=*} has several lines" >&2
			echo "hint: give the name alone, and the value as a variable of that name" >&2
			exit 1
		elif [[ $value == *"=\$("*")" ]]; then
			echo "warning: the value of ${value%%=*} is not set: building without it" >&2
			value=${value%%=*}
		fi
		[[ -z $value ]] || volatile+=${volatile:+$'\n'}$value
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
volatile=
volatile_args "$PARAM_VOLATILE_ARGS"
[[ -z $volatile ]] || export DOCKER_BUILD_REMOTE_CACHE_VOLATILE_ARG=$volatile
each '' "$PARAM_EXTRA_ARGS"
image=$(expand "$PARAM_IMAGE")
path=$(expand "$PARAM_PATH")

# For save.sh, in the steps after this one.
state=$(mktemp -d "${AGENT_TEMPDIRECTORY:-${TMPDIR:-/tmp}}/remote-cache.XXXXXX")/state.json
export DOCKER_BUILD_REMOTE_CACHE_STATE=$state
if [[ -n ${TF_BUILD-} ]]; then
	echo "##vso[task.setvariable variable=DOCKER_BUILD_REMOTE_CACHE_STATE]$state"
elif [[ -n ${BASH_ENV-} ]]; then
	printf 'export DOCKER_BUILD_REMOTE_CACHE_STATE=%q\n' "$state" >>"$BASH_ENV"
fi

# exec: signals reach the program, not this shell.
exec docker-build-remote-cache "${args[@]}" -- "$image" "$path"
