package main

import (
	"errors"
	"strings"
	"testing"
)

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	cases := []struct {
		args    string // fields; a lone "" is an empty argument
		message string // part of it
		hint    string // part of it
	}{
		{``, "the image is missing", "[REGISTRY/]NAME[:TAG]"},
		{`"" .`, "the image is missing", "[REGISTRY/]NAME[:TAG]"},
		{`.`, "the image is missing: . is a path", program + " NAME:TAG ."},
		{`./dir app:1`, "./dir is a path", program + " app:1 ./dir"},
		{`-t app:1 dir/`, "dir/ is a path", program + " app:1 dir/"},
		{`/src`, "/src is a path", ""},
		{`~/src`, "~/src is a path", ""},
		{`https://token@host/x.git`, "a URL stands in its place", "the image comes first"},
		{`a b c`, `too many arguments: "c" after the image "a" and the path "b"`, "quotes"},
		{`app --push false`, `unexpected argument "false"`, "--push=false"},
		{`app ""`, "PATH is empty", "current directory"},
		{`app -`, "build context on standard input", "-f -"},
		{`app https://host/x.git`, "remote build context", "git clone"},
		{`app git@host:x.git`, "remote build context", "git clone"},
		{`app -f https://host/Dockerfile`, "remote Dockerfile", "download it"},
		{`save --state x`, "the command save comes first", "save:latest"},
		{`--no-cache prune`, "prune is not available", "prune:latest"},
		{`app --buildarg A=1`, "unknown option --buildarg; did you mean --build-arg?", "--help"},
		{`app --cachefrom=x`, "did you mean --cache-from?", ""},
		{`app -push`, "unknown option -push; did you mean --push?", ""},
		{`app -build-arg=A`, "unknown option -build-arg; did you mean --build-arg?", ""},
		{`app --zzzzzzzz`, "unknown option --zzzzzzzz", "--help"},
		{`app -x`, "unknown option -x", "--help"},
		{`app -qx`, "unknown option -x", "--help"},
		{`app ---tag`, `"---tag" is not an option`, "--help"},
		{`app --tag`, "--tag needs a value", ""},
		{`app --secret`, "--secret needs a value", "--secret takes id=NAME"},
		{`app -f`, "--file needs a value", ""},
		{`app -t ""`, "--tag: the name is empty", ""},
		{`app --no-cache=maybe`, `--no-cache: "maybe" is neither true nor false`, ""},
		{`app --rm=maybe`, `--rm: "maybe" is neither`, ""},
		{`app --stream=maybe`, `--stream: "maybe" is neither`, ""},
		{`app --cache-save sometimes`, `--cache-save: "sometimes" is not always, success or never`, "--cache-save takes always, success or never"},
		{`app --cache-unprefixed success`, `is not always, default-branch or never`, ""},
		{`app --cache-stages a,,b`, `--cache-stages: "" is not the name of a stage`, "--cache-stages takes all, target or NAME"},
		{`app --cache-stages a,b/c`, `"b/c" is not the name of a stage`, ""},
		{`app --cache-stages target,a`, `"target" cannot stand among names`, ""},
		{`app --progress loud`, `--progress: "loud" is not auto`, ""},
		{`app -q --progress plain`, "--quiet and --progress plain exclude each other", ""},
		{`app --no-cache --no-cache-filter a`, "--no-cache and --no-cache-filter exclude each other", ""},
		{`app --add-host a`, "--add-host: ", "NAME:host-gateway"},
		{`app --add-host a:b`, "--add-host: ", ""},
		{`app --allow root`, "--allow: unknown entitlement root", "network.host"},
		{`app --allow buildx.local.delete`, "--allow: ", ""},
		{`app --annotation a`, "--annotation: the value after = is missing", ""},
		{`app --annotation config:a=b`, `--annotation: type "config"`, ""},
		{`app --annotation index:=b`, "--annotation: the name before =", ""},
		{`app --annotation manifest[a/b/c/d]:a=b`, "--annotation: ", ""},
		{`app --attest mode=max`, `--attest: type is missing`, "type=provenance|sbom"},
		{`app --attest type=vex`, `--attest: type "vex"`, ""},
		{`app --attest type=sbom,disabled=x`, `--attest: disabled="x"`, ""},
		{`app --attest sbom`, "--attest: a field is not KEY=VALUE", ""},
		{`app --provenance max`, "--provenance: a field is not KEY=VALUE", ""},
		{`app --provenance type=sbom`, "--provenance: the type is provenance", ""},
		{`app --build-context x`, "--build-context: the value after =", ""},
		{`app --build-context UPPER=.`, `--build-context: name "UPPER"`, ""},
		{`app --cache-from type=inline`, `--cache-from: type "inline" is not registry`, ""},
		{`app --cache-from ref=x`, `--cache-from: type is missing`, ""},
		{`app --cache-from type=registry`, "--cache-from: ref is missing", ""},
		{`app --cache-to type=registry,x`, "--cache-to: a field is not KEY=VALUE", ""},
		{`app --call outline`, "--call outline is not supported", "docker buildx build"},
		{`app --check`, "--check is not supported", "docker buildx build --check"},
		{`app --policy x`, "--policy is not supported", ""},
		{`app --print targets`, "--print is not supported", ""},
		{`app --cpu-shares many`, `--cpu-shares: "many" is not a whole number`, ""},
		{`app --label =x`, "--label: the name before = is missing", ""},
		{`app --memory lots`, "--memory: invalid size", "a number of bytes"},
		{`app --memory 99999999999g`, "--memory: ", ""},
		{`app --memory-swap -2`, "--memory-swap: ", ""},
		{`app --shm-size x`, "--shm-size: ", ""},
		{`app --resource disk=1`, "names no resource", "cpuset-mems"},
		{`app --resource memory=x`, "--resource: invalid size", ""},
		{`app --output type=zip`, `--output: type "zip" is not local`, ""},
		{`app --output dest=x,mode=y`, `--output: type is missing`, ""},
		{`app --output type=local`, "--output: type local needs dest=DIRECTORY", ""},
		{`app --output type=local,dest=-`, "cannot go to standard output", ""},
		{`app --output type=oci,tar=false`, "type oci needs dest=DIRECTORY", ""},
		{`app --output type=local,dest=x,mode=delete`, "mode=delete is not supported", ""},
		{`app -o - -o type=oci`, "both go to standard output", "dest=FILE"},
		{`app -o out --iidfile i`, "--iidfile and --output type=local exclude each other", ""},
		{`app --platform linux/amd64/v1/x`, "--platform: ", "OS/ARCH"},
		{`app --platform linux/amd64,`, "--platform: a platform is empty", ""},
		{`app --secret id=a,src=f,env=E`, "--secret: src and env exclude each other", ""},
		{`app --secret id=a,type=vault`, `--secret: type "vault" is not file or env`, ""},
		{`app --secret id=a,type=`, "--secret: type is missing", ""},
		{`app --secret src=f`, "--secret: id is missing", ""},
		{`app --secret id=a,path=f`, `--secret: key "path"`, ""},
		{`app --ssh a=b,,c`, "--ssh: a path is empty", ""},
		{`app --ulimit files=1`, "--ulimit: invalid ulimit type: files", "NAME=SOFT[:HARD]"},
	}
	for _, c := range cases {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(c.args)
			for i := range args {
				if args[i] == `""` {
					args[i] = ""
				}
			}
			checkUsageError(t, args, nil, c.message, c.hint)
		})
	}
}

func TestBadVariablesAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ value, message, hint string }{
		ownPrefix + "CACHE_SAVE":   {"sometimes", `"sometimes" is not`, "--cache-save takes always"},
		ownPrefix + "DRY_RUN":      {"maybe", `"maybe" is neither`, ""},
		ownPrefix + "CACHE_STAGES": {"!", `"!" is not the name of a stage`, ""},
		"DOCKER_DEFAULT_PLATFORM":  {"a/b/c/d", "", "OS/ARCH"},
		"BUILDKIT_PROGRESS":        {"loud", `"loud" is not`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkUsageError(t, []string{"app"}, map[string]string{name: c.value}, "invalid value for "+name+": "+strings.TrimSpace(c.message), c.hint)
		})
	}
}

// A value that may be a secret is not repeated, as CI logs are public.
func TestErrorsKeepSecrets(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, args := range [][]string{
		{"app", "--build-arg", "=" + secret},
		{"app", "--secret", secret},
		{"app", "--secret", "id=x," + secret},
		{"app", "--cache-to", "type=s3,secret_access_key=" + secret + ",x"},
		{"app", "--cache-to", "type=nope,token=" + secret},
		{"app", "--output", "type=nope,token=" + secret},
		{"app", "--ssh", secret + "=,"},
		{"app", "--label", "=" + secret},
		{"app", "https://" + secret + "@host/repo.git"},
		{"https://" + secret + "@host/repo.git"},
	} {
		_, err := parseCommandLine(args, noEnv)
		var usage *usageError
		if !errors.As(err, &usage) {
			t.Errorf("%q: %v is no *usageError", args, err)
			continue
		}
		if strings.Contains(usage.message+usage.hint, secret) {
			t.Errorf("%q: the secret is in %q / %q", args, usage.message, usage.hint)
		}
	}
}

func checkUsageError(t *testing.T, args []string, vars map[string]string, message, hint string) {
	t.Helper()
	_, err := parseCommandLine(args, environment(vars))
	var usage *usageError
	if !errors.As(err, &usage) {
		t.Fatalf("%v is no *usageError", err)
	}
	if !strings.Contains(usage.message, message) {
		t.Errorf("message %q lacks %q", usage.message, message)
	}
	if !strings.Contains(usage.hint, hint) {
		t.Errorf("hint %q lacks %q", usage.hint, hint)
	}
}
