package ci

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gitEnv keeps tests from the configuration of the person who runs them.
func gitEnv(extra ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}, extra...)
}

// repository is a real one, on disk.
type repository struct {
	t *testing.T
	GitCommand
}

// newRepository has one commit on the given branch.
func newRepository(t *testing.T, branch string) repository {
	t.Helper()
	r := repository{t, GitCommand{Dir: t.TempDir(), Env: gitEnv("GIT_CEILING_DIRECTORIES=" + os.TempDir())}}
	r.do("init", "--quiet", "--initial-branch="+branch)
	r.do("commit", "--quiet", "--allow-empty", "--message=first")
	return r
}

func (r repository) do(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = r.Dir, r.Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// clone is the other repository's clone, as a person makes it.
func (r repository) clone() repository {
	r.t.Helper()
	c := repository{r.t, GitCommand{Dir: filepath.Join(r.t.TempDir(), "clone"), Env: r.Env}}
	r.do("clone", "--quiet", r.Dir, c.Dir)
	return c
}

func TestGitCurrentBranch(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "feat/x")
	check := func(want string, wantErr error) {
		t.Helper()
		got, err := r.CurrentBranch(t.Context())
		if got != want || !errors.Is(err, wantErr) {
			t.Errorf("got %q, %v; want %q, %v", got, err, want, wantErr)
		}
	}
	check("feat/x", nil)

	// A tag of the same name makes the short form "heads/feat/x".
	r.do("tag", "feat/x")
	check("feat/x", nil)

	sub := filepath.Join(r.Dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := (GitCommand{Dir: sub, Env: r.Env}).CurrentBranch(t.Context()); got != "feat/x" || err != nil {
		t.Errorf("in a directory below: %q, %v", got, err)
	}

	r.do("checkout", "--quiet", "--detach")
	check("", ErrDetached)

	r.do("checkout", "--quiet", "--orphan", "unborn")
	check("unborn", nil)
	if commit, err := r.Commit(t.Context()); commit != "" || err == nil {
		t.Errorf("commit of a branch without any: %q, %v", commit, err)
	}
}

func TestGitCommit(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "main")
	want := r.do("rev-parse", "HEAD")
	if got, err := r.Commit(t.Context()); got != want || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestGitRemoteHead(t *testing.T) {
	t.Parallel()
	origin := newRepository(t, "trunk/1")
	check := func(r repository, want string) {
		t.Helper()
		if got, err := r.RemoteHead(t.Context()); got != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	cloned := origin.clone()
	check(cloned, "trunk/1")

	// Checkouts on CI init and fetch one commit: origin has to be asked.
	fetched := newRepository(t, "unrelated")
	fetched.do("remote", "add", "origin", origin.Dir)
	check(fetched, "trunk/1")

	// What was cloned is believed, without asking: offline counts more than
	// the rare rename.
	cloned.do("remote", "set-url", "origin", filepath.Join(t.TempDir(), "gone"))
	check(cloned, "trunk/1")

	origin.do("checkout", "--quiet", "--detach")
	if got, err := fetched.RemoteHead(t.Context()); err == nil || !strings.Contains(err.Error(), "does not say") {
		t.Errorf("of an origin without a branch: %q, %v", got, err)
	}
	if got, err := newRepository(t, "main").RemoteHead(t.Context()); err == nil || errors.Is(err, ErrNotARepository) {
		t.Errorf("without origin: %q, %v", got, err)
	}
}

func TestGitHasBranch(t *testing.T) {
	t.Parallel()
	origin := newRepository(t, "main")
	origin.do("branch", "master")
	cloned := origin.clone()
	cloned.do("tag", "v1")
	cloned.do("branch", "-m", "main", "local")
	for name, want := range map[string]bool{
		"local": true, "main": true, "master": true, "v1": false, "none": false, "--quiet": false,
	} {
		got, err := cloned.HasBranch(t.Context(), name)
		if got != want || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
}

func TestGitErrors(t *testing.T) {
	dir := t.TempDir()
	questions := map[string]func(GitCommand) error{
		"branch":      func(g GitCommand) error { _, err := g.CurrentBranch(t.Context()); return err },
		"remote head": func(g GitCommand) error { _, err := g.RemoteHead(t.Context()); return err },
		"has branch":  func(g GitCommand) error { _, err := g.HasBranch(t.Context(), "main"); return err },
		"commit":      func(g GitCommand) error { _, err := g.Commit(t.Context()); return err },
	}
	outside := GitCommand{Dir: dir, Env: gitEnv("GIT_CEILING_DIRECTORIES="+dir, "LANGUAGE=de", "LC_ALL=de_DE.UTF-8")}
	for name, ask := range questions {
		if err := ask(outside); !errors.Is(err, ErrNotARepository) {
			t.Errorf("%s outside of a repository: %v", name, err)
		}
	}
	t.Setenv("PATH", t.TempDir()) // git is looked for in this process' PATH
	for name, ask := range questions {
		if err := ask(outside); !errors.Is(err, ErrNoGit) {
			t.Errorf("%s without git: %v", name, err)
		}
	}
}

// TestGitIsBounded has git start a transport that never answers.
func TestGitIsBounded(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "main")
	r.do("remote", "add", "origin", "ssh://git@example.invalid/app.git")
	r.do("config", "core.sshCommand", "sleep 60 #")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := r.RemoteHead(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestGitNeverPrompts has a transport show what it would have asked with.
func TestGitNeverPrompts(t *testing.T) {
	t.Parallel()
	r := newRepository(t, "main")
	r.do("remote", "add", "origin", "ssh://git@example.invalid/app.git")
	r.do("config", "core.sshCommand", `echo "fatal: $GIT_TERMINAL_PROMPT $SSH_ASKPASS_REQUIRE $SSH_ASKPASS $LC_ALL" >&2; false #`)
	_, err := r.RemoteHead(t.Context())
	if err == nil || !strings.Contains(err.Error(), `"0 force false C"`) {
		t.Errorf("got %v", err)
	}
}

func TestComplaint(t *testing.T) {
	for stderr, want := range map[string]string{
		"":                          "",
		"warning: x\nno fatal: y\n": "",
		"remote: \x1b[2J\nfatal: Authentication failed for 'https://user:secret@example.com/app.git/'\nfatal: second\n": `: "Authentication failed for 'https://example.com/app.git/'"`,
		"fatal: \x1b[31m" + strings.Repeat("x", 300): `: "\x1b[31m` + strings.Repeat("x", 195) + `"`,
	} {
		if got := complaint(stderr); got != want {
			t.Errorf("complaint(%q) = %s, want %s", stderr, got, want)
		}
	}
}

func TestLimitedBuffer(t *testing.T) {
	var b limitedBuffer
	for range 3 {
		if n, err := b.Write(make([]byte, maxGitOutput/2+1)); n != maxGitOutput/2+1 || err != nil {
			t.Fatalf("Write = %d, %v: git would get a broken pipe", n, err)
		}
	}
	if len(b.String()) != maxGitOutput {
		t.Errorf("kept %d bytes", len(b.String()))
	}
}

// TestDetectInRealRepository is a laptop: a clone, and no platform.
func TestDetectInRealRepository(t *testing.T) {
	t.Parallel()
	cloned := newRepository(t, "trunk").clone()
	cloned.do("checkout", "--quiet", "-b", "feat/x")
	got, warnings := Detect(t.Context(), Input{Getenv: lookup(nil), Git: cloned.GitCommand})
	want := Facts{
		Provider: ProviderGit,
		Branch:   "feat/x", BranchSource: "git",
		DefaultBranch: "trunk", DefaultBranchSource: "git: HEAD of origin",
		Commit: cloned.do("rev-parse", "HEAD"),
		Trust:  TrustOwn, TrustReason: "not a pull request",
	}
	if got != want || len(warnings) > 0 {
		t.Errorf("got %+v, %q\nwant %+v", got, warnings, want)
	}
}

// TestGitInheritsEnvironment: without an environment of its own, git has that
// of the process, which is where CI keeps its credentials.
func TestGitInheritsEnvironment(t *testing.T) {
	r := newRepository(t, "feat/x")
	t.Setenv("GIT_DIR", filepath.Join(r.Dir, ".git"))
	if got, err := (GitCommand{Dir: t.TempDir()}).CurrentBranch(t.Context()); got != "feat/x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
