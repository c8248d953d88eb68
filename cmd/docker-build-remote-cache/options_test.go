package main

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
)

// environment looks variables up in a map.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := vars[name]
		return value, ok
	}
}

// parse reads a command line written with spaces.
func parse(t *testing.T, line string, vars map[string]string) *options {
	t.Helper()
	o, err := parseCommandLine(strings.Fields(line), environment(vars))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return o
}

func compare(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(options{}, stageSelection{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// plain is what the image alone asks for.
func plain() *options {
	return &options{
		image: "app", push: true, progress: "auto", cacheSave: always, cacheUnprefixed: always, checkpoint: 2 * time.Minute, advice: true,
		build: engine.Options{Context: ".", Dockerfile: "Dockerfile"},
	}
}

func TestPositional(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]func(*options){
		"app":                  func(*options) {},
		"host:5000/a/b:1 .":    func(o *options) { o.image = "host:5000/a/b:1" },
		"app sub":              func(o *options) { o.build.Context, o.build.Dockerfile = "sub", "sub/Dockerfile" },
		"app --no-cache sub":   func(o *options) { o.build.Context, o.build.Dockerfile, o.build.NoCache = "sub", "sub/Dockerfile", true },
		"--no-cache app":       func(o *options) { o.build.NoCache = true },
		"--pull -- app .":      func(o *options) { o.build.Pull = true },
		"-- app --odd":         func(o *options) { o.build.Context, o.build.Dockerfile = "--odd", "--odd/Dockerfile" },
		"save:latest":          func(o *options) { o.image = "save:latest" },
		"app save":             func(o *options) { o.build.Context, o.build.Dockerfile = "save", "save/Dockerfile" },
		"app github.com/a/b":   func(o *options) { o.build.Context, o.build.Dockerfile = "github.com/a/b", "github.com/a/b/Dockerfile" },
		"app -f deploy/Df sub": func(o *options) { o.build.Context, o.build.Dockerfile = "sub", "deploy/Df" },
		"app -f - sub":         func(o *options) { o.build.Context, o.build.Dockerfile = "sub", "-" },
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			expected := plain()
			want(expected)
			compare(t, expected, parse(t, line, nil))
		})
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"https://host/a": true, "http://host/a.git#main": true, "git://host/a": true, "ssh://git@host/a": true, "git@host:a/b": true,
		"https://host/a.git?oops=": true,
		".":                        false, "a/b.git": false, "/a/b": false, "github.com/a/b": false, "../a@b": false, `C:\a`: false, "host:5000/a": false, "a:b": false, "-": false, "": false,
	} {
		if got := isURL(s); got != want {
			t.Errorf("isURL(%q) = %t", s, got)
		}
	}
}

func TestHelpAndVersionNeedNothingElse(t *testing.T) {
	t.Parallel()
	bad := map[string]string{ownPrefix + "CACHE_SAVE": "sometimes"}
	if o := parse(t, "--help", bad); !o.help {
		t.Error("--help is not taken")
	}
	if o := parse(t, "-h a b c", bad); !o.help {
		t.Error("-h is not taken")
	}
	if o := parse(t, "--version", bad); !o.version {
		t.Error("--version is not taken")
	}
}

func TestOwnOptions(t *testing.T) {
	t.Parallel()
	all := plain()
	all.branch, all.defaultBranch, all.baseBranch = "feat/x", "main", "next"
	all.cacheRepo, all.cacheScope, all.report = "host/cache", "arm64", "out.json"
	all.cacheStages = stageSelection{names: []string{"builder", "1"}}
	all.cacheSave, all.cacheUnprefixed, all.dryRun = onSuccess, onDefaultBranch, true
	all.autoCacheMounts, all.advice = true, false
	all.cacheMounts, all.cacheMountsMax = cache.MountSelection{IDs: []string{"gomod", "/root/.cache"}}, 500<<20

	compare(t, all, parse(t, "app --branch feat/x --default-branch main --base-branch next --cache-repo host/cache"+
		" --cache-scope arm64 --report out.json --cache-stages Builder,1 --cache-save success"+
		" --cache-unprefixed default-branch --auto-cache-mounts --advice=false --dry-run --cache-mounts gomod,/root/.cache --cache-mounts-max 500m", nil))

	vars := map[string]string{
		"DOCKER_BUILD_REMOTE_CACHE_BRANCH":            "feat/x",
		"DOCKER_BUILD_REMOTE_CACHE_DEFAULT_BRANCH":    "main",
		"DOCKER_BUILD_REMOTE_CACHE_BASE_BRANCH":       "next",
		"DOCKER_BUILD_REMOTE_CACHE_CACHE_REPO":        "host/cache",
		"DOCKER_BUILD_REMOTE_CACHE_CACHE_SCOPE":       "arm64",
		"DOCKER_BUILD_REMOTE_CACHE_REPORT":            "out.json",
		"DOCKER_BUILD_REMOTE_CACHE_CACHE_STAGES":      "Builder, 1",
		"DOCKER_BUILD_REMOTE_CACHE_CACHE_SAVE":        "success",
		"DOCKER_BUILD_REMOTE_CACHE_CACHE_UNPREFIXED":  "default-branch",
		"DOCKER_BUILD_REMOTE_CACHE_CACHE_MOUNTS":      "gomod, /root/.cache",
		"DOCKER_BUILD_REMOTE_CACHE_CACHE_MOUNTS_MAX":  "500m",
		"DOCKER_BUILD_REMOTE_CACHE_AUTO_CACHE_MOUNTS": "true",
		"DOCKER_BUILD_REMOTE_CACHE_ADVICE":            "false",
		"DOCKER_BUILD_REMOTE_CACHE_DRY_RUN":           "true",
	}
	compare(t, all, parse(t, "app", vars))

	// As pipelines write lists.
	vars["DOCKER_BUILD_REMOTE_CACHE_CACHE_STAGES"] = "Builder\n1\n"
	vars["DOCKER_BUILD_REMOTE_CACHE_CACHE_MOUNTS"] = "\n  gomod\r\n  /root/.cache"
	compare(t, all, parse(t, "app", vars))

	won := *all
	won.branch, won.cacheSave, won.dryRun, won.cacheStages = "other", never, false, stageSelection{needed: true}
	won.cacheMounts = cache.MountSelection{}
	compare(t, &won, parse(t, "app --branch other --cache-save never --dry-run=false --cache-stages target --cache-mounts all", vars))
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		line string
		vars map[string]string
		want func(*options)
	}{
		"empty is none": {"app", map[string]string{ownPrefix + "CACHE_SAVE": "", ownPrefix + "DRY_RUN": "", "BUILDX_BUILDER": ""},
			func(*options) {}},
		"builder":             {"app", map[string]string{"BUILDX_BUILDER": "b"}, func(o *options) { o.builder = "b" }},
		"builder given":       {"app --builder c", map[string]string{"BUILDX_BUILDER": "b"}, func(o *options) { o.builder = "c" }},
		"platform":            {"app", map[string]string{"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}, func(o *options) { o.build.Platforms = []string{"linux/arm64"} }},
		"platform given":      {"app --platform linux/amd64", map[string]string{"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}, func(o *options) { o.build.Platforms = []string{"linux/amd64"} }},
		"progress":            {"app", map[string]string{"BUILDKIT_PROGRESS": "plain"}, func(o *options) { o.progress = "plain" }},
		"progress and quiet":  {"app -q", map[string]string{"BUILDKIT_PROGRESS": "plain"}, func(o *options) { o.progress, o.quiet = "quiet", true }},
		"source date":         {"app", map[string]string{"SOURCE_DATE_EPOCH": "0"}, func(o *options) { o.build.BuildArgs = []engine.BuildArg{{Name: "SOURCE_DATE_EPOCH", Value: "0"}} }},
		"source date given":   {"app --build-arg SOURCE_DATE_EPOCH=", map[string]string{"SOURCE_DATE_EPOCH": "0"}, func(o *options) { o.build.BuildArgs = []engine.BuildArg{{Name: "SOURCE_DATE_EPOCH"}} }},
		"no own help by name": {"app", map[string]string{ownPrefix + "HELP": "true", ownPrefix + "VERSION": "true"}, func(*options) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expected := plain()
			c.want(expected)
			compare(t, expected, parse(t, c.line, c.vars))
		})
	}
}

// An empty variable is a value of --build-arg NAME, a missing one is none.
func TestEmptyVariableOfBuildArg(t *testing.T) {
	t.Parallel()
	args := []string{"app", "--build-arg", "EMPTY"}
	o, err := parseCommandLine(args, environment(map[string]string{"EMPTY": ""}))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, []engine.BuildArg{{Name: "EMPTY"}}, o.build.BuildArgs)
	if o, err = parseCommandLine(args, noEnv); err != nil {
		t.Fatal(err)
	}
	compare(t, []engine.BuildArg(nil), o.build.BuildArgs)
}

// Every option that docker build and docker buildx build know is known here,
// with its short form, whether it takes a value or not.
func TestDockerOptionsAreKnown(t *testing.T) {
	t.Parallel()
	list, err := os.ReadFile("testdata/dockerflags.txt")
	if err != nil {
		t.Fatal(err)
	}
	flags := flagSet(newParser(noEnv).dockerOptions())
	listed := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		name := strings.TrimPrefix(words[len(words)-1], "--")
		listed[name] = true
		flag := flags.Lookup(name)
		if flag == nil {
			t.Errorf("--%s is not known", name)
			continue
		}
		short := ""
		if len(words) == 2 {
			short = strings.TrimPrefix(words[0], "-")
		}
		if flag.Shorthand != short {
			t.Errorf("--%s is -%s in short, want -%s", name, flag.Shorthand, short)
		}
	}
	for _, o := range newParser(noEnv).dockerOptions() {
		if !listed[o.name] {
			t.Errorf("--%s is no option of docker", o.name)
		}
	}
}

// Whatever is written, parsing ends in options or in a *usageError, never in
// a panic, and options name an image and a local directory.
func checkParse(t interface{ Fatalf(string, ...any) }, args []string, vars map[string]string) {
	o, err := parseCommandLine(args, environment(vars))
	var usage *usageError
	switch {
	case err != nil && !errors.As(err, &usage):
		t.Fatalf("%q: %T %v is no *usageError", args, err, err)
	case err != nil && usage.message == "":
		t.Fatalf("%q: the error says nothing", args)
	case err == nil && !o.help && !o.version && (o.image == "" || o.build.Context == "" || o.build.Dockerfile == ""):
		t.Fatalf("%q: the image, the context or the Dockerfile is missing: %+v", args, o)
	}
}

func FuzzParseCommandLine(f *testing.F) {
	f.Add("app\x00.\x00--secret\x00id=a,src=b", "always")
	f.Add("--output\x00type=oci,\"dest=a,b\"\x00-t\x00x\x00app", "")
	f.Add("app\x00--attest\x00type=sbom,generator=g\x00--annotation\x00index[linux/amd64]:a=b", "never")
	f.Add("-qf-\x00app\x00--add-host=a=[::1]\x00--platform\x00linux/arm/v7", "success")
	f.Fuzz(func(t *testing.T, line, variable string) {
		checkParse(t, strings.Split(line, "\x00"), map[string]string{
			ownPrefix + "CACHE_SAVE": variable, ownPrefix + "CACHE_STAGES": variable, "DOCKER_DEFAULT_PLATFORM": variable,
		})
	})
}

func TestParseNeverPanics(t *testing.T) {
	t.Parallel()
	p := newParser(noEnv)
	var names []string
	for _, o := range append(p.ownOptions(), p.dockerOptions()...) {
		names = append(names, o.name)
	}
	word := rapid.OneOf(rapid.String(), rapid.StringMatching(`([a-z]{1,6}=?["\[\]:,/.0-9-]{0,4},?){0,4}`),
		rapid.SampledFrom([]string{"", "-", ".", "app", "true", "type=local", "type=registry,ref=a", "id=a,env=B", "1g", "a:1.1.1.1"}))
	rapid.Check(t, func(t *rapid.T) {
		var args []string
		for range rapid.IntRange(0, 6).Draw(t, "arguments") {
			value := word.Draw(t, "value")
			if rapid.Bool().Draw(t, "option") {
				value = "--" + rapid.SampledFrom(names).Draw(t, "name") + "=" + value
			}
			args = append(args, value)
		}
		checkParse(t, args, nil)
	})
}

// Docker gives build steps the proxies of its configuration, unless arguments
// say otherwise.
func TestConfiguredProxies(t *testing.T) {
	t.Parallel()
	config := configfile.New("")
	config.Proxies = map[string]configfile.ProxyConfig{
		"default":                 {HTTPProxy: "http://all:3128", NoProxy: "localhost"},
		"tcp://docker.internal:1": {HTTPProxy: "http://one:3128"},
	}
	for _, c := range []struct {
		line, host string
		want       []engine.BuildArg
	}{
		{"app", "", []engine.BuildArg{
			{Name: "HTTP_PROXY", Value: "http://all:3128"}, {Name: "NO_PROXY", Value: "localhost"},
			{Name: "http_proxy", Value: "http://all:3128"}, {Name: "no_proxy", Value: "localhost"},
		}},
		{"app", "tcp://docker.internal:1", []engine.BuildArg{
			{Name: "HTTP_PROXY", Value: "http://one:3128"}, {Name: "http_proxy", Value: "http://one:3128"},
		}},
		{"app --build-arg http_proxy= --volatile-arg NO_PROXY=x", "", []engine.BuildArg{{Name: "http_proxy"}}},
	} {
		o := parse(t, c.line, nil)
		addConfiguredProxies(o, engine.Selection{Config: config, DockerHost: c.host})
		compare(t, c.want, o.build.BuildArgs)
	}
}
