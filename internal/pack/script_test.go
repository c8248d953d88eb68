package pack

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// job runs the orb's scripts as CircleCI runs steps: each in a bash of its
// own, with BASH_ENV to hand variables on.
type job struct {
	home, bin string
	env       []string
	orb       parsedOrb
}

func newJob(t *testing.T, env map[string]string) *job {
	t.Helper()
	j := &job{home: t.TempDir(), orb: parseOrb(t)}
	j.bin = filepath.Join(j.home, "bin")
	if err := os.Mkdir(j.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{
		"PATH": j.bin + ":/usr/local/bin:/usr/bin:/bin", "TMPDIR": j.home, "HOME": j.home, "BASH_ENV": filepath.Join(j.home, "bash_env"),
		// As CircleCI sets them for a push.
		"CI": "true", "CIRCLECI": "true", "CIRCLE_BRANCH": "feat/x", "CIRCLE_SHA1": "5ca1ab1e",
		"CIRCLE_PROJECT_REPONAME": "app", "CIRCLE_PROJECT_USERNAME": "acme", "CIRCLE_WORKING_DIRECTORY": "~/project",
	}
	maps.Copy(all, env)
	for name, value := range all {
		j.env = append(j.env, name+"="+value)
	}
	if err := os.WriteFile(filepath.Join(j.home, "bash_env"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// What the CircleCI agent puts into every job; here its one verb, which
	// takes a text that begins with a dash for an option, and without an
	// argument standard input (cmd/env.go of CircleCI-Public/circleci-cli).
	j.command(t, "circleci", `[[ $1 == env && $2 == subst ]] || exit 64
if [[ ${3-} == -* ]]; then echo "Error: unknown flag: $3" >&2; exit 255; fi
if [[ $# -gt 2 ]]; then text=$3; else text=$(cat; echo .); text=${text%.}; fi
[[ $text != *'${}'* ]] || { echo "Error: bad substitution" >&2; exit 255; }
perl -e '$_ = shift; s/\$\{(\w+)\}|\$(\w+)/$ENV{$1 \/\/ $2}/ge; print' -- "$text"`)
	return j
}

// command puts a program into PATH.
func (j *job) command(t *testing.T, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(j.bin, name), []byte("#!/usr/bin/env bash\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// program puts one into PATH that writes its arguments to a file.
func (j *job) program(t *testing.T, then string) {
	t.Helper()
	j.command(t, "docker-build-remote-cache", `[[ $1 != --version ]] || exit 0
printf '%s\0' "$@" >>"$HOME/called"
`+then)
}

func (j *job) called(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(j.home, "called"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00")
}

// script is a run step's script, and its environment for these parameters.
func (j *job) script(t *testing.T, command string, index int, parameters map[string]string) (script string, env []string) {
	t.Helper()
	c := j.orb.Commands[command]
	values := map[string]string{}
	for name, p := range c.Parameters {
		if !p.Default.IsZero() {
			values[name] = p.Default.Value
		}
	}
	maps.Copy(values, parameters)
	substitute := func(s string) string {
		for name, value := range values {
			s = strings.ReplaceAll(s, "<< parameters."+name+" >>", value)
		}
		return strings.ReplaceAll(s, "<< pipeline.git.branch.is_default >>", parameters["pipeline.git.branch.is_default"])
	}
	var runs []struct {
		Run struct {
			Command     string
			Environment map[string]string
		}
	}
	for _, step := range c.Steps {
		if name, _ := invocation(step); name == "run" {
			runs = append(runs, struct {
				Run struct {
					Command     string
					Environment map[string]string
				}
			}{})
			if err := step.Decode(&runs[len(runs)-1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	run := runs[index].Run
	for name, value := range run.Environment {
		env = append(env, name+"="+substitute(value))
	}
	return strings.ReplaceAll(run.Command, `\<<`, "<<"), env
}

func (j *job) run(t *testing.T, command string, index int, parameters map[string]string) (output string, status int) {
	t.Helper()
	script, env := j.script(t, command, index, parameters)
	return j.runScript(t, script, env)
}

func (j *job) runScript(t *testing.T, script string, env []string) (output string, status int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "step")
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "--noprofile", "--norc", "-eo", "pipefail", file)
	cmd.Dir, cmd.Env = j.home, append(slices.Clone(j.env), env...)
	combined, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(combined), cmd.ProcessState.ExitCode()
}

func (j *job) mustRun(t *testing.T, command string, index int, parameters map[string]string) string {
	t.Helper()
	output, status := j.run(t, command, index, parameters)
	if status != 0 {
		t.Fatalf("status %d\n%s", status, output)
	}
	return output
}

func TestBuildScript(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env, parameters map[string]string
		want            []string
	}{
		"smallest": {
			parameters: map[string]string{"image": "app:${CIRCLE_SHA1}", "pipeline.git.branch.is_default": "false"},
			want:       []string{"--push=true", "--cache-save=always", "--", "app:5ca1ab1e", "."},
		},
		"default branch": {
			env:        map[string]string{"CIRCLE_BRANCH": "trunk"},
			parameters: map[string]string{"image": "app", "pipeline.git.branch.is_default": "true"},
			want:       []string{"--push=true", "--cache-save=always", "--default-branch=trunk", "--", "app", "."},
		},
		// https://circleci.com/docs/guides/orchestrate/pipeline-variables/
		"empty pipeline values": {
			parameters: map[string]string{"image": "app", "branch": "<nil>", "base_branch": "<nil>", "pipeline.git.branch.is_default": "<nil>"},
			want:       []string{"--push=true", "--cache-save=always", "--", "app", "."},
		},
		"pull request of the GitHub App": {
			parameters: map[string]string{"image": "app", "branch": "feat/y", "base_branch": "release/1", "push": "false"},
			want:       []string{"--push=false", "--cache-save=always", "--branch=feat/y", "--base-branch=release/1", "--", "app", "."},
		},
		"everything": {
			env: map[string]string{"VERSION": "1.2", "NPM_TOKEN": "hunter2"},
			parameters: map[string]string{
				"image": "app", "path": "services/app", "file": "Dockerfile.prod", "target": "server", "platform": "linux/amd64,linux/arm64",
				"tags": "app:a\n\napp:b\n", "build_args": "VERSION=$VERSION\nTEXT=two words \"and\" 'quotes'", "secrets": "id=npm,env=NPM_TOKEN",
				"extra_args": "--label=a=b c\n--no-cache", "cache_repo": "acme/cache", "cache_scope": "x", "cache_save": "success", "default_branch": "dev",
			},
			want: []string{
				"--file=Dockerfile.prod", "--target=server", "--platform=linux/amd64,linux/arm64", "--push=true",
				"--cache-repo=acme/cache", "--cache-scope=x", "--cache-save=success", "--default-branch=dev",
				"--tag=app:a", "--tag=app:b", "--build-arg=VERSION=1.2", "--build-arg=TEXT=two words \"and\" 'quotes'",
				"--secret=id=npm,env=NPM_TOKEN", "--label=a=b c", "--no-cache", "--", "app", "services/app",
			},
		},
		"variables in options": {
			env:        map[string]string{"CIRCLE_SHA1": "5ca1ab1e"},
			parameters: map[string]string{"image": "app", "extra_args": "  --label=sha=${CIRCLE_SHA1}\n\t--no-cache \n"},
			want:       []string{"--push=true", "--cache-save=always", "--label=sha=5ca1ab1e", "--no-cache", "--", "app", "."},
		},
		"a value of several lines": {
			env: map[string]string{"MESSAGE": "fix it\n--cache-trust=own"},
			parameters: map[string]string{
				"image": "app", "tags": "app:a\r\n", "build_args": "MESSAGE=${MESSAGE}", "extra_args": "--label=message=${MESSAGE}",
			},
			want: []string{
				"--push=true", "--cache-save=always", "--tag=app:a", "--build-arg=MESSAGE=fix it\n--cache-trust=own",
				"--label=message=fix it\n--cache-trust=own", "--", "app", ".",
			},
		},
		"a variable that is empty": {
			parameters: map[string]string{"image": "app", "extra_args": "${NONE}\n--no-cache", "tags": "${NONE}"},
			want:       []string{"--push=true", "--cache-save=always", "--no-cache", "--", "app", "."},
		},
		"a branch named after a secret": {
			env:        map[string]string{"NPM_TOKEN": "hunter2"},
			parameters: map[string]string{"image": "app", "branch": "${NPM_TOKEN}"},
			want:       []string{"--push=true", "--cache-save=always", "--branch=${NPM_TOKEN}", "--", "app", "."},
		},
		"what looks like a command": {
			env:        map[string]string{"CIRCLE_BRANCH": "$(touch owned)"},
			parameters: map[string]string{"image": "$(touch owned)`touch owned`;touch owned", "path": "--help", "build_args": "A=$(touch owned)", "pipeline.git.branch.is_default": "true"},
			want: []string{
				"--push=true", "--cache-save=always", "--default-branch=$(touch owned)", "--build-arg=A=$(touch owned)", "--",
				"$(touch owned)`touch owned`;touch owned", "--help",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, c.env)
			j.program(t, "")
			j.mustRun(t, "build", 0, c.parameters)
			if got := j.called(t); !slices.Equal(got, c.want) {
				t.Errorf("the program was called with\n%q, want\n%q", got, c.want)
			}
			if _, err := os.Stat(filepath.Join(j.home, "owned")); err == nil {
				t.Error("a parameter was run as a command")
			}
		})
	}
}

// TestBuildScriptHidesVolatileArguments: their values stand in no command line,
// and one that Azure does not know is none.
func TestBuildScriptHidesVolatileArguments(t *testing.T) {
	t.Parallel()
	j := newJob(t, nil)
	j.program(t, `printf %s "$DOCKER_BUILD_REMOTE_CACHE_VOLATILE_ARG" >"$HOME/volatile"`)
	output := j.mustRun(t, "build", 0, map[string]string{"image": "app", "volatile_args": "A=https://u:s3cr3t@h/\nB\nC=$(UNKNOWN)"})
	if got := j.called(t); slices.ContainsFunc(got, func(arg string) bool { return strings.Contains(arg, "s3cr3t") }) {
		t.Errorf("the program was called with %q", got)
	}
	got, err := os.ReadFile(filepath.Join(j.home, "volatile"))
	if err != nil || string(got) != "A=https://u:s3cr3t@h/\nB\nC" {
		t.Errorf("the variable is %q, %v", got, err)
	}
	if !strings.Contains(output, "the value of C is not set: building without it") {
		t.Errorf("the output is %s", output)
	}
}

// TestBuildScriptRefuses what it cannot hand on as it is meant.
func TestBuildScriptRefuses(t *testing.T) {
	t.Parallel()
	env := map[string]string{"KEY": "line 1\nline 2"}
	for name, c := range map[string]struct {
		parameters map[string]string
		want       string
	}{
		"volatile value of several lines": {map[string]string{"image": "app", "volatile_args": "A=${KEY}"}, "error: the value of A has several lines"},
		"bad substitution in the image":   {map[string]string{"image": "app:${}"}, "bad substitution"},
		"bad substitution in a list":      {map[string]string{"image": "app", "tags": "app:${}"}, "bad substitution"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJob(t, env)
			j.program(t, "")
			output, status := j.run(t, "build", 0, c.parameters)
			if status == 0 || !strings.Contains(output, c.want) || strings.Contains(output, "line 2") {
				t.Errorf("status %d\n%s", status, output)
			}
			if _, err := os.Stat(filepath.Join(j.home, "called")); err == nil {
				t.Errorf("the program was called with %q", j.called(t))
			}
		})
	}
}

// TestBuildScriptHandsOver: the program has the shell's place, so that it gets
// the signals, and its status is the step's.
func TestBuildScriptHandsOver(t *testing.T) {
	t.Parallel()
	j := newJob(t, nil)
	j.program(t, `cat "/proc/$PPID/comm" >"$HOME/parent"; exit 3`)
	if output, status := j.run(t, "build", 0, map[string]string{"image": "app"}); status != 3 {
		t.Errorf("the status is %d, want the program's 3\n%s", status, output)
	}
	parent, err := os.ReadFile(filepath.Join(j.home, "parent"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(parent)) == "bash" {
		t.Error("the program runs below the script's bash")
	}
}

// TestSaveScript saves what a failed build left, and only that.
func TestSaveScript(t *testing.T) {
	t.Parallel()
	j := newJob(t, nil)
	if output := j.mustRun(t, "build", 1, nil); !strings.Contains(output, "nothing to save") {
		t.Errorf("before a build: %s", output)
	}
	j.program(t, `[[ $1 == save ]] || { echo '{}' >"$DOCKER_BUILD_REMOTE_CACHE_STATE"; exit 1; }`)
	if _, status := j.run(t, "build", 0, map[string]string{"image": "app"}); status != 1 {
		t.Fatalf("the status is %d, want 1", status)
	}
	j.mustRun(t, "build", 1, nil)
	called := j.called(t)
	if last := called[len(called)-3:]; last[0] != "save" || !strings.HasPrefix(last[1], "--state=/") || last[2] != "--timeout=4m" {
		t.Errorf("the last call was %q", last)
	}
}

func TestLoginScript(t *testing.T) {
	t.Parallel()
	parameters := map[string]string{"registry": "ghcr.io", "username": "USER_VARIABLE", "password": "TOKEN_VARIABLE"}
	docker := `printf '%s\0' "$@" "$(cat)" >"$HOME/called"`

	j := newJob(t, map[string]string{"USER_VARIABLE": "me", "TOKEN_VARIABLE": "hunter2"})
	j.command(t, "docker", docker)
	j.mustRun(t, "login", 0, parameters)
	if got, want := j.called(t), []string{"login", "--username", "me", "--password-stdin", "ghcr.io", "hunter2"}; !slices.Equal(got, want) {
		t.Errorf("docker was called with %q, want %q", got, want)
	}
	parameters["registry"] = ""
	j.mustRun(t, "login", 0, parameters)
	if got, want := j.called(t), []string{"login", "--username", "me", "--password-stdin", "hunter2"}; !slices.Equal(got, want) {
		t.Errorf("for Docker Hub docker was called with %q, want %q", got, want)
	}

	fork := newJob(t, nil)
	fork.command(t, "docker", docker)
	if output := fork.mustRun(t, "login", 0, parameters); !strings.Contains(output, "USER_VARIABLE or TOKEN_VARIABLE is not set") {
		t.Errorf("without variables: %s", output)
	}
}

// TestInstallScript downloads a release from a server of its own.
func TestInstallScript(t *testing.T) {
	t.Parallel()
	const program = "#!/bin/sh\necho \"program $*\"\n"
	mux := http.NewServeMux()
	mux.HandleFunc("/v1.2.3/docker-build-remote-cache_"+runtime.GOOS+"_"+runtime.GOARCH+".gz", func(w http.ResponseWriter, _ *http.Request) {
		packed := gzip.NewWriter(w)
		_, _ = packed.Write([]byte(program))
		_ = packed.Close()
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	pinned := func(t *testing.T, content string) *job {
		j := newJob(t, map[string]string{"REMOTE_CACHE_DOWNLOAD": server.URL})
		install := j.orb.Commands["install"]
		command := &install.Steps[0].Content[1].Content[3].Value
		sum := fmt.Sprintf("%x %s_%s\n", sha256.Sum256([]byte(content)), runtime.GOOS, runtime.GOARCH)
		*command = strings.Replace(*command, "version=\n", "version=1.2.3\n", 1)
		*command = strings.Replace(*command, "checksums='\n", "checksums='\n"+sum, 1)
		return j
	}

	t.Run("released", func(t *testing.T) {
		t.Parallel()
		j := pinned(t, program)
		if output := j.mustRun(t, "install", 0, nil); !strings.Contains(output, "program --version") {
			t.Errorf("the output is %s", output)
		}
		// The next step finds it in PATH.
		j.mustRun(t, "build", 0, map[string]string{"image": "app"})
		j.mustRun(t, "install", 0, nil)
	})
	t.Run("another binary", func(t *testing.T) {
		t.Parallel()
		j := pinned(t, "something else")
		output, status := j.run(t, "install", 0, nil)
		if status == 0 || !strings.Contains(output, "was released") {
			t.Errorf("status %d\n%s", status, output)
		}
		left, err := filepath.Glob(filepath.Join(j.home, ".local/share/docker-build-remote-cache/*/*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind were %q (%v)", left, err)
		}
	})
	t.Run("unreleased", func(t *testing.T) {
		t.Parallel()
		output, status := newJob(t, nil).run(t, "install", 0, nil)
		if status == 0 || !strings.Contains(output, "hint: use a released version") {
			t.Errorf("status %d\n%s", status, output)
		}
	})
	t.Run("in the ops image", func(t *testing.T) {
		t.Parallel()
		j := newJob(t, nil)
		j.program(t, "")
		j.mustRun(t, "install", 0, nil)
	})
}
