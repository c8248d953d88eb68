package ci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What a caller of Git must tell apart.
var (
	// ErrNoGit: the git command is not installed.
	ErrNoGit = errors.New("git is not installed")
	// ErrNotARepository: the directory is in no repository.
	ErrNotARepository = errors.New("not in a git repository")
	// ErrDetached: a commit is checked out, not a branch.
	ErrDetached = errors.New("HEAD is detached")
)

const (
	// localTimeout bounds questions that read a few small files.
	localTimeout = 10 * time.Second
	// remoteTimeout bounds the one question to the network. It is short, for
	// its answer has substitutes and a build waits for it.
	remoteTimeout = 5 * time.Second
	// maxGitOutput in bytes: one line is expected.
	maxGitOutput = 64 << 10
)

// GitCommand answers from the repository around a directory by running git.
// It never prompts and never waits long.
type GitCommand struct {
	// Dir is where git runs; empty is the current directory.
	Dir string
	// Env is git's environment; nil is that of this process.
	Env []string
}

// CurrentBranch names the branch that is checked out, even if it has no
// commit yet. Errors: ErrDetached, ErrNotARepository, ErrNoGit.
func (g GitCommand) CurrentBranch(ctx context.Context) (string, error) {
	// Not --short, which writes heads/v1 when there is also a tag v1.
	full, err := g.run(ctx, localTimeout, "symbolic-ref", "--quiet", "HEAD")
	if isExit(err, 1) {
		return "", ErrDetached
	}
	if err != nil {
		return "", err
	}
	branch, ok := strings.CutPrefix(full, "refs/heads/")
	if !ok {
		return "", ErrDetached
	}
	return branch, nil
}

// RemoteHead names the default branch of origin: as it was when it was
// cloned, else by asking it (checkouts on CI have not cloned).
func (g GitCommand) RemoteHead(ctx context.Context) (string, error) {
	full, err := g.run(ctx, localTimeout, "symbolic-ref", "--quiet", "refs/remotes/origin/HEAD")
	if branch, ok := strings.CutPrefix(full, "refs/remotes/origin/"); err == nil && ok {
		return branch, nil
	}
	if err != nil && !isExit(err, 1) {
		return "", err
	}
	out, err := g.run(ctx, remoteTimeout, "ls-remote", "--symref", "origin", "HEAD")
	if err != nil {
		return "", err
	}
	// https://git-scm.com/docs/git-ls-remote#Documentation/git-ls-remote.txt---symref
	for line := range strings.Lines(out) {
		target, ok := strings.CutPrefix(line, "ref: refs/heads/")
		if branch, name, _ := strings.Cut(target, "\t"); ok && strings.TrimSpace(name) == "HEAD" {
			return branch, nil
		}
	}
	return "", errors.New("git ls-remote: origin does not say which branch is its HEAD")
}

// HasBranch tells whether a branch exists here or was seen at origin.
func (g GitCommand) HasBranch(ctx context.Context, name string) (bool, error) {
	for _, prefix := range []string{"refs/heads/", "refs/remotes/origin/"} {
		_, err := g.run(ctx, localTimeout, "show-ref", "--verify", "--quiet", prefix+name)
		if err == nil {
			return true, nil
		}
		if !isExit(err, 1) {
			return false, err
		}
	}
	return false, nil
}

// Commit is the object name of HEAD.
func (g GitCommand) Commit(ctx context.Context) (string, error) {
	return g.run(ctx, localTimeout, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
}

// run gives git's standard output without the last newline.
func (g GitCommand) run(ctx context.Context, timeout time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = g.Dir
	cmd.Env = g.environment(cmd)
	// Interrupted first, so that git ends its own children (ssh, https).
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Second
	var stdout, stderr limitedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	err := cmd.Run()
	switch {
	case err == nil:
		return strings.TrimSuffix(stdout.String(), "\n"), nil
	case errors.Is(err, exec.ErrNotFound):
		return "", ErrNoGit
	case ctx.Err() != nil:
		return "", fmt.Errorf("git %s: %w", args[0], context.Cause(ctx))
	case strings.Contains(stderr.String(), "not a git repository"):
		// Git exits with 128 for this as for everything; only its words differ.
		return "", ErrNotARepository
	}
	return "", fmt.Errorf("git %s: %w%s", args[0], err, complaint(stderr.String()))
}

// environment keeps git from asking people and from speaking their language.
func (g GitCommand) environment(cmd *exec.Cmd) []string {
	env := slices.Clone(g.Env)
	if env == nil {
		env = cmd.Environ()
	}
	return append(env,
		"LC_ALL=C", // run reads git's words
		"GIT_TERMINAL_PROMPT=0",
		"GCM_INTERACTIVE=never", // https://github.com/git-ecosystem/git-credential-manager/blob/main/docs/environment.md
		// ssh asks the terminal, not git, for passphrases and unknown hosts:
		// it is given a program to ask that says no. BatchMode would need
		// GIT_SSH_COMMAND, which would replace what a checkout configured.
		"SSH_ASKPASS_REQUIRE=force", "SSH_ASKPASS=false",
	)
}

func isExit(err error, code int) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == code
}

var credentials = regexp.MustCompile(`://[^/\s@]*@`)

// complaint is the line with which git gave up, fit to be shown: it may quote
// an address with a password in it, or what a server said.
func complaint(stderr string) string {
	for line := range strings.Lines(stderr) {
		if text, ok := strings.CutPrefix(line, "fatal: "); ok {
			text = credentials.ReplaceAllString(strings.TrimSpace(text), "://")
			return fmt.Sprintf(": %.200q", text)
		}
	}
	return ""
}

// limitedBuffer keeps the first maxGitOutput bytes and drops the rest. The
// buffer is no embedded field: its ReadFrom would go round the limit.
type limitedBuffer struct{ kept bytes.Buffer }

func (b *limitedBuffer) Write(data []byte) (int, error) {
	room := max(0, maxGitOutput-b.kept.Len())
	b.kept.Write(data[:min(room, len(data))])
	return len(data), nil
}

func (b *limitedBuffer) String() string { return b.kept.String() }
