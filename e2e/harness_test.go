// Package e2e runs the command as CI does: as a process, on real engines,
// against a real registry, again and again on engines that have lost
// everything. It has no code but tests; docs/testbed.md describes what they
// run on.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

const command = "docker-build-remote-cache"

// runTimeout bounds one run of the command, and with it every wait for what it
// prints.
const runTimeout = 2 * time.Minute

// binary is the command, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, command)
	status := 1
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		status = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(status)
}

func build() error {
	if testing.Short() {
		return nil // every test is skipped
	}
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "../cmd/"+command)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return nil
}

// runner runs the command on one engine with one project.
type runner struct {
	env     *testbed.Env
	engine  *testbed.Engine
	dir     string   // the project, which is the current directory of the command
	repo    string   // of the image, this test's alone
	vars    []string // environment of the command: nothing of this process's
	options []string // given to every run
	binary  string   // the command
}

// kinds are the engines that the main job must work on.
var kinds = []kind{
	{name: "buildkitd", engine: testbed.BuildKitd, vars: func(address string) []string { return []string{"BUILDKIT_HOST=" + address} }},
	{name: "buildx", engine: testbed.Buildx, vars: func(address string) []string { return []string{"BUILDX_BUILDER=" + address} }},
	{name: "moby", engine: testbed.Moby, vars: dockerHost},
}

// kind is a way to build, named by the environment as it is in CI.
type kind struct {
	name   string
	engine string // of the testbed
	vars   func(address string) []string
}

func dockerHost(address string) []string { return []string{"DOCKER_HOST=" + address} }

// onEveryEngine runs a test on each kind of engine, several at once.
func onEveryEngine(t *testing.T, test func(t *testing.T, r *runner)) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			test(t, newRunner(t, kind))
		})
	}
}

// onBuildKit runs where what is tested does not depend on the engine.
func onBuildKit(t *testing.T) *runner {
	t.Helper()
	t.Parallel()
	return newRunner(t, kinds[0])
}

func engineKind(t *testing.T, name string) kind {
	t.Helper()
	for _, kind := range kinds {
		if kind.name == name {
			return kind
		}
	}
	t.Fatalf("no engine is called %s", name)
	return kind{}
}

// newRunner takes an engine, empty, for this test.
func newRunner(t *testing.T, k kind) *runner {
	t.Helper()
	env := testbed.Up(t, k.engine)
	engine := env.Engine(t, k.engine)
	r := &runner{env: env, engine: engine, dir: t.TempDir(), repo: env.Repo(t), binary: binary}
	for _, variable := range env.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "PATH", "DOCKER_CONFIG":
			r.vars = append(r.vars, variable)
		}
	}
	r.vars = append(r.vars, "HOME="+t.TempDir(), "TMPDIR="+t.TempDir(), "GORACE=atexit_sleep_ms=0")
	r.vars = append(r.vars, k.vars(engine.Address)...)
	return r
}

// on is the runner for builds of another branch.
func (r *runner) on(branch string) *runner {
	other := *r
	other.options = append([]string{"--branch", branch, "--default-branch", "master"}, r.options...)
	return &other
}

// with is the runner with further options.
func (r *runner) with(options ...string) *runner {
	other := *r
	other.options = append(append([]string{}, r.options...), options...)
	return &other
}

// image is a tag of the test's repository.
func (r *runner) image(tag string) string { return r.repo + ":" + tag }

// write puts a file into the project. BASE in a Dockerfile is the smallest
// base image.
func (r *runner) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(r.dir, name)
	content = strings.ReplaceAll(content, "BASE", r.env.Base("busybox:latest"))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// process is a run of the command.
type process struct {
	cmd    *exec.Cmd
	report string // file
	stdout bytes.Buffer
	stderr *talk
	cancel context.CancelFunc
}

// start runs the command in the background.
func (r *runner) start(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	t.Cleanup(cancel)
	p := &process{report: filepath.Join(t.TempDir(), "report.json"), stderr: newTalk(), cancel: cancel}
	args = append(append([]string{}, args...), r.options...)
	p.cmd = exec.CommandContext(ctx, r.binary, append(args, "--report", p.report)...)
	p.cmd.Dir, p.cmd.Env = r.dir, r.vars
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, p.stderr
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// signal sends a signal once the command has printed a text.
func (p *process) signal(t *testing.T, after string, s syscall.Signal) {
	t.Helper()
	p.await(t, after)
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// await blocks until the command has printed a text.
func (p *process) await(t *testing.T, text string) {
	t.Helper()
	select {
	case <-p.stderr.wrote(text):
	case <-time.After(runTimeout):
		t.Fatalf("%q was not printed:\n%s", text, p.stderr)
	}
}

// outcome is what a run has come to.
type outcome struct {
	args           string
	status         int
	stdout, stderr string
	report         report.Report // zero if the run ended before its build
}

// wait blocks until the command has ended.
func (p *process) wait(t *testing.T) outcome {
	t.Helper()
	defer p.cancel()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		t.Fatalf("%s: %v\n%s", p.cmd, err, p.stderr)
	}
	o := outcome{
		args: strings.Join(p.cmd.Args[1:], " "), status: p.cmd.ProcessState.ExitCode(),
		stdout: p.stdout.String(), stderr: p.stderr.String(),
	}
	raw, err := os.ReadFile(p.report)
	if err == nil {
		err = json.Unmarshal(raw, &o.report)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return o
}

// run runs the command to its end, which must have this status.
func (r *runner) run(t *testing.T, status int, args ...string) outcome {
	t.Helper()
	return r.start(t, args...).wantStatus(t, status)
}

// wantStatus waits for the end of a run, which must have this status.
func (p *process) wantStatus(t *testing.T, status int) outcome {
	t.Helper()
	o := p.wait(t)
	if o.status != status {
		t.Fatalf("%s: exit status %d, want %d\n%s", o.args, o.status, status, o.stderr)
	}
	return o
}

// talk keeps what a process prints and tells those who wait for a text.
type talk struct {
	mu      sync.Mutex
	text    bytes.Buffer
	waiting map[string]chan struct{}
}

func newTalk() *talk { return &talk{waiting: map[string]chan struct{}{}} }

var _ io.Writer = (*talk)(nil)

func (k *talk) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, err := k.text.Write(p)
	for text, found := range k.waiting {
		if strings.Contains(k.text.String(), text) {
			close(found)
			delete(k.waiting, text)
		}
	}
	return n, err
}

func (k *talk) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

// wrote is closed once the text has been printed.
func (k *talk) wrote(text string) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := make(chan struct{})
	if strings.Contains(k.text.String(), text) {
		close(found)
	} else {
		k.waiting[text] = found
	}
	return found
}

// tool runs another command, as one would in the shell of the testbed, and
// returns what it prints.
func tool(t *testing.T, r *runner, variable string, args ...string) string {
	t.Helper()
	// env looks the command up in the testbed's PATH, which is not that of
	// this process.
	cmd := exec.CommandContext(t.Context(), "/usr/bin/env", append([]string{variable}, args...)...)
	cmd.Dir, cmd.Env = r.dir, r.env.Environ()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}
