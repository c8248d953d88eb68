package action_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/vendorschema"
)

// runner is a GitHub runner: act in host mode, which runs the workflow of
// testdata/project on this machine, with the action as a release holds it.
type runner struct {
	act     string
	project string // a git repository
	action  string // what uses: resolves to
	env     map[string]string
}

// newRunner makes a repository acme/app on branch feat/x and a copy of the
// action.
func newRunner(t *testing.T, env map[string]string) *runner {
	t.Helper()
	node(t)
	r := &runner{act: actPath(t), project: t.TempDir(), action: t.TempDir(), env: map[string]string{
		"BUILDKIT_PROGRESS": "plain", // act has a terminal, which GitHub has not
		"REPORT":            filepath.Join(t.TempDir(), "report.json"),
		"OUTPUTS_FILE":      filepath.Join(t.TempDir(), "outputs.json"),
	}}
	maps.Copy(r.env, env)
	if err := os.CopyFS(r.project, os.DirFS("testdata/project")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(r.action, "action"), os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.action, "action.yml"), readFile(t, "action.yml"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=feat/x"},
		{"remote", "add", "origin", "https://github.com/acme/app.git"},
		{"add", "--all"},
		{"-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message=start"},
	} {
		if output, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", r.project}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, output)
		}
	}
	return r
}

func actPath(t *testing.T) string {
	t.Helper()
	bin, err := exec.CommandContext(t.Context(), filepath.Join(vendorschema.Root(), "scripts", "tools"), "act").Output()
	if err != nil {
		t.Fatalf("scripts/tools act: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(bin)), "act")
}

// command runs the workflow for an event.
func (r *runner) command(ctx context.Context, t *testing.T, event string, payload any) *exec.Cmd {
	t.Helper()
	content, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{
		event, "--eventpath", file, "--platform", "ubuntu-latest=-self-hosted", "--no-cache-server", "--pull=false",
		"--action-cache-path", t.TempDir(),
		"--local-repository", "docker-build-remote-cache/docker-build-remote-cache@v1=" + r.action,
	}
	for _, name := range slices.Sorted(maps.Keys(r.env)) {
		args = append(args, "--env", name+"="+r.env[name])
	}
	cmd := exec.CommandContext(ctx, r.act, args...)
	cmd.Dir = r.project
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

func (r *runner) run(t *testing.T, event string, payload any) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	combined, err := r.command(ctx, t, event, payload).CombinedOutput()
	return string(combined), err
}

func (r *runner) mustRun(t *testing.T, event string, payload any) string {
	t.Helper()
	output, err := r.run(t, event, payload)
	if err != nil {
		t.Fatalf("act %s: %v\n%s", event, err, output)
	}
	return output
}

func (r *runner) readJSON(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(r.env[name])
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// The events, as far as they are read.
func pushTo(ref string) map[string]any {
	return map[string]any{"ref": ref, "repository": repository("acme/app")}
}

func pullRequestFrom(head string) map[string]any {
	return map[string]any{
		"number":     7,
		"repository": repository("acme/app"),
		"pull_request": map[string]any{
			"number": 7,
			"head":   map[string]any{"ref": "feat/y", "repo": repository(head)},
			"base":   map[string]any{"ref": "release/1", "repo": repository("acme/app")},
		},
	}
}

func repository(name string) map[string]any {
	return map[string]any{"full_name": name, "default_branch": "trunk"}
}

// TestActionOnEvents builds for each kind of event and looks at the report.
func TestActionOnEvents(t *testing.T) {
	env := testbed.Up(t, testbed.BuildKitd)
	engine := env.Engine(t, testbed.BuildKitd)
	program := buildProgram(t)
	for _, c := range []struct {
		name, event string
		payload     any
		branch      string
		saved       []string // tags
	}{
		{"push", "push", pushTo("refs/heads/feat/x"), "feat/x", []string{"feat-x-builder", "builder", "feat-x", "latest"}},
		{"pull request", "pull_request", pullRequestFrom("acme/app"), "feat/y", []string{"feat-y-builder", "builder", "feat-y", "latest"}},
		{"pull request of a fork", "pull_request", pullRequestFrom("stranger/app"), "feat/y", nil},
		{"tag", "push", pushTo("refs/tags/v1"), "", []string{"builder", "latest"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			engine.Fresh(t)
			image := env.Repo(t) + ":built"
			r := newRunner(t, map[string]string{
				"BINARY": program, "IMAGE": image, "BASE": env.Base("busybox:latest"),
				"BUILDKIT_HOST": engine.Address,
			})
			output := r.mustRun(t, c.event, c.payload)
			var report struct {
				Image, Branch string
				Result        struct{ Status, Digest string }
				Stages        []struct{ Saved []struct{ Ref, Error string } }
			}
			r.readJSON(t, "REPORT", &report)
			if report.Image != image || report.Branch != c.branch || report.Result.Status != "ok" {
				t.Errorf("the report is %+v\n%s", report, output)
			}
			var saved []string
			for _, stage := range report.Stages {
				for _, one := range stage.Saved {
					saved = append(saved, strings.TrimPrefix(one.Ref, strings.TrimSuffix(image, "built"))+one.Error)
				}
			}
			if !slices.Equal(saved, c.saved) {
				t.Errorf("saved were %q, want %q", saved, c.saved)
			}
			// Post finds the state file and hands it to the program.
			if !strings.Contains(output, "Post docker-build-remote-cache/docker-build-remote-cache@v1") || !strings.Contains(output, "nothing to save") {
				t.Errorf("post did not ask the program to save\n%s", output)
			}
			var outputs map[string]string
			r.readJSON(t, "OUTPUTS_FILE", &outputs)
			if outputs["image"] != image || outputs["digest"] != report.Result.Digest || outputs["report"] != r.env["REPORT"] || outputs["cache-hit-rate"] != "0.00" {
				t.Errorf("the outputs are %q, the report is %+v", outputs, report)
			}
			if !strings.Contains(output, "Summary - ### `"+image+"` ok") {
				t.Errorf("the job has no summary\n%s", output)
			}
		})
	}
}

// TestReleasedAction leaves out the input binary: the action downloads the
// release that its own commit pins.
func TestReleasedAction(t *testing.T) {
	fake, err := os.ReadFile("testdata/program.js")
	if err != nil {
		t.Fatal(err)
	}
	platform := runtime.GOOS + "_" + runtime.GOARCH
	asset := "/docker-build-remote-cache/docker-build-remote-cache/releases/download/v1.2.3/docker-build-remote-cache_" + platform + ".gz"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != asset {
			http.NotFound(w, r)
			return
		}
		packed := gzip.NewWriter(w)
		_, _ = packed.Write(fake)
		_ = packed.Close()
	}))
	defer server.Close()
	record := filepath.Join(t.TempDir(), "record")
	r := newRunner(t, map[string]string{
		"IMAGE": "ghcr.io/acme/app:1", "FAKE_RECORD": record,
		"GITHUB_SERVER_URL": server.URL, "RUNNER_TOOL_CACHE": t.TempDir(),
	})
	pins, err := json.Marshal(map[string]any{
		"version": "1.2.3", "sha256": map[string]string{platform: fmt.Sprintf("%x", sha256.Sum256(fake))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.action, "action", "release.json"), pins, 0o644); err != nil {
		t.Fatal(err)
	}
	output := r.mustRun(t, "push", pushTo("refs/heads/feat/x"))
	calls := recorded(t, record)
	if len(calls) != 1 || !slices.Equal(calls[0].Args[len(calls[0].Args)-3:], []string{"--", "ghcr.io/acme/app:1", "."}) {
		t.Errorf("the program was called as %+v\n%s", calls, output)
	}
	if len(calls[0].Secrets) != 1 || calls[0].Secrets[0].Value != "note=of two\nlines"[len("note="):] {
		t.Errorf("the secrets are %+v", calls[0].Secrets)
	}
}

// TestCancelledActionSavesInPost cancels a build in the middle of a step. Of
// what was complete nothing is saved yet, as checkpoints are off; post does
// it. Unlike GitHub, act kills the step at once, as a lost machine would.
func TestCancelledActionSavesInPost(t *testing.T) {
	env := testbed.Up(t, testbed.BuildKitd)
	engine := env.Engine(t, testbed.BuildKitd)
	pidFile := filepath.Join(t.TempDir(), "pid")
	wrapper := filepath.Join(t.TempDir(), "program")
	script := "#!/bin/sh\n[ \"$1\" = save ] || echo $PPID $$ >" + pidFile + "\nexec " + buildProgram(t) + " \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	r := newRunner(t, map[string]string{
		"BINARY": wrapper, "IMAGE": env.Repo(t) + ":built", "BASE": env.Base("busybox:latest"),
		"BUILDKIT_HOST": engine.Address, "DOCKER_BUILD_REMOTE_CACHE_CHECKPOINT": "0",
	})
	slow := "ARG BASE\nFROM $BASE AS builder\nRUN echo finished >/finished\nRUN echo under''way && sleep 600\n"
	if err := os.WriteFile(filepath.Join(r.project, "Dockerfile"), []byte(slow), 0o644); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := r.command(ctx, t, "push", pushTo("refs/heads/feat/x"))
	output := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := func(what string, done func() bool) {
		for !done() {
			if ctx.Err() != nil {
				t.Fatalf("%s does not come to pass\n%s", what, output)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	wait("the slow step", func() bool { return strings.Contains(output.String(), "underway") })
	var action, program int
	content, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(content), &action, &program); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = syscall.Kill(program, syscall.SIGKILL) }
	defer kill()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	wait("the end of main.js", func() bool { return syscall.Kill(action, 0) != nil })
	kill() // GitHub kills the whole tree; act leaves this to us, and waits for it
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, output)
	}
	if !strings.Contains(output.String(), "builder is saved to") {
		t.Errorf("post did not save what was complete\n%s", output)
	}
}

// call is what testdata/program.js writes down.
type call struct {
	Args    []string
	Secrets []struct{ Value string }
}

func recorded(t *testing.T, file string) []call {
	t.Helper()
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var calls []call
	for decoder := json.NewDecoder(bytes.NewReader(content)); ; {
		var c call
		err := decoder.Decode(&c)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // being written
			return calls
		}
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	}
}

// lockedBuffer is written by the process while it is read for a message.
type lockedBuffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}
