package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
	"github.com/google/go-cmp/cmp"
)

// onGithub are surroundings whose standard error is returned.
func onGithub(variables map[string]string) (surroundings, *bytes.Buffer) {
	out := new(bytes.Buffer)
	s := surroundings{stderr: out, lookupEnv: func(name string) (string, bool) {
		if name == "GITHUB_ACTIONS" {
			return "true", true
		}
		value, ok := variables[name]
		return value, ok
	}}
	return s.onPlatform(), out
}

func TestHitRate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cached, all int
		want        string
	}{
		{0, 0, ""}, {0, 3, "0.00"}, {2, 3, "0.66"}, {199, 200, "0.99"}, {3, 3, "1.00"},
	} {
		var r report.Report
		r.Stages = make([]report.Stage, 2)
		for i := range test.all {
			step := report.Step{Status: report.Ran}
			if i < test.cached {
				step.Status = report.Cached
			}
			stage := &r.Stages[i%2]
			stage.Steps = append(stage.Steps, step)
		}
		if got := hitRate(r); got != test.want {
			t.Errorf("%d of %d are %q, want %q", test.cached, test.all, got, test.want)
		}
	}
}

// The values of secrets are masked, from wherever they come, and nothing else
// of them is printed.
func TestMaskSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s, out := onGithub(map[string]string{"TOKEN": "s3cr3t"})
	s.maskSecrets([]engine.Secret{
		{ID: "env", Env: "TOKEN"},
		{ID: "unset", Env: "UNSET"},
		{ID: "file", File: write("key", "first line\nx\nlast line\n")},
		{ID: "book", File: write("book", strings.Repeat("page ", maxSecret))},
		{ID: "missing", File: filepath.Join(dir, "missing")},
	})
	want := "::add-mask::s3cr3t\n::add-mask::first line\n::add-mask::last line\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A secret that comes through a pipe is left for the build to read.
func TestMaskSecretsLeavesPipes(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if _, err := write.WriteString("s3cr3t"); err != nil {
		t.Fatal(err)
	}
	write.Close()
	s, out := onGithub(nil)
	s.maskSecrets([]engine.Secret{{ID: "pipe", File: fmt.Sprintf("/dev/fd/%d", read.Fd())}})
	if left, err := io.ReadAll(read); string(left) != "s3cr3t" || err != nil || out.Len() > 0 {
		t.Errorf("%q is left of the secret, %v; printed: %s", left, err, out)
	}
}

// What is warned of before there is a report is in the report, and so an
// annotation, without the value.
func TestEarlyWarningsAreReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nARG INDEX\nRUN x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := onGithub(map[string]string{"RUNNER_TEMP": dir, "GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary")})
	o := parse(t, "app "+dir+" --branch x --default-branch main --build-arg INDEX=https://me:s3cr3t@example.com/ --volatile-arg MISTYPED", nil)
	p, err := prepare(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s.stderr = &out
	s = s.onPlatform()
	if err := newRecorder(s.platform, o, p).write(s, o); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"::warning::--build-arg INDEX looks like a credential", "::warning::--volatile-arg MISTYPED has no effect"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	summary, err := os.ReadFile(filepath.Join(dir, "summary"))
	if err != nil || !strings.Contains(string(summary), "INDEX looks like a credential") || strings.Contains(string(summary), "s3cr3t") {
		t.Errorf("the summary is %s, %v", summary, err)
	}
}

// Advice that the engine could not follow would break the build.
func TestNoAdviceToTheClassicBuilder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM node:20\nRUN npm ci\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := parse(t, "app "+dir+" --branch x --default-branch main", nil)
	p, err := prepare(t.Context(), surroundings{stderr: io.Discard, lookupEnv: environment(nil)}, o)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder(nil, o, p)
	if r.engine("BuildKit", true); len(r.report.Advice) != 1 || len(r.report.Skips) != 0 {
		t.Errorf("with BuildKit there is advice %v, and %v is skipped", r.report.Advice, r.report.Skips)
	}
	r = newRecorder(nil, o, p)
	if r.engine("classic", false); len(r.report.Advice) != 0 || len(r.report.Skips) != 1 {
		t.Errorf("with the classic builder there is advice %v, and %v is skipped", r.report.Advice, r.report.Skips)
	}
}

// A Dockerfile that this program can read and the engine cannot is too new for
// the engine.
func TestHintAtAnOldFrontend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nRUN <<EOF\necho\nEOF\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := surroundings{stderr: &out, lookupEnv: environment(nil)}
	p, err := prepare(t.Context(), s, parse(t, "app "+dir+" --branch x --default-branch main", nil))
	if err != nil {
		t.Fatal(err)
	}
	for message, want := range map[string]bool{
		"failed to create LLB definition: dockerfile parse error line 3: unknown instruction: ECHO": true,
		"Error response from daemon: dockerfile parse error line 2: Unknown flag: link":             true,
		"process \"/bin/sh -c false\" did not complete successfully: exit code: 1":                  false,
	} {
		out.Reset()
		s.tellFailure(p, engine.Outcome{Result: engine.BuildFailed, Err: errors.New(message)})
		if got := strings.Contains(out.String(), "\nhint: "); got != want {
			t.Errorf("hint: %v, want %v:\n%s", got, want, &out)
		}
	}
}

// A run that nobody has named a report for hands one to later steps, and what
// cannot be told is told to people.
func TestTell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, out := onGithub(map[string]string{
		"RUNNER_TEMP": dir, "GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "no", "summary"),
	})
	file, err := s.platform.reportFile()
	if err != nil || !strings.HasPrefix(file, dir) {
		t.Fatalf("report at %q, %v", file, err)
	}
	r := report.Report{Image: "app:1", Warnings: []string{"a\n::error::b"}, Stages: []report.Stage{
		{Name: "builder", Saved: []report.Saved{{Ref: "app:x-builder", Error: "denied"}, {Ref: "app:builder", Error: "denied"}}},
	}}
	if err := s.platform.tell(r, file); err == nil {
		t.Error("the summary that cannot be written is no error")
	}
	want := "::warning::a%0A: :error::b\n::warning::cache lost, not saved to x-builder, builder: denied\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	outputs, err := os.ReadFile(filepath.Join(dir, "output"))
	if err != nil || !strings.Contains(string(outputs), "\n"+file+"\n") || !strings.Contains(string(outputs), "\napp:1\n") {
		t.Errorf("outputs are %q, %v", outputs, err)
	}
}

// Without a platform nobody is told anything.
func TestNoPlatform(t *testing.T) {
	t.Parallel()
	var p *platform
	p.group("a")
	p.annotate("error", "Dockerfile", 1, "a")
	p.endGroup()
	surroundings{lookupEnv: func(string) (string, bool) { return "", false }}.maskSecrets([]engine.Secret{{Env: "A"}})
	if file, err := p.reportFile(); file != "" || err != nil {
		t.Errorf("reportFile = %q, %v", file, err)
	}
	if err := p.tell(report.Report{}, ""); err != nil {
		t.Error(err)
	}
}
