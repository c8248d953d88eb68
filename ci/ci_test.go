package ci

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fakeGit answers with words that no recorded environment contains, so that
// facts show what was taken from it.
type fakeGit struct {
	branch, remoteHead, commit string
	branches                   []string
	err                        error
}

var recordedGit = fakeGit{branch: "branch-by-git", remoteHead: "default-by-git", commit: strings.Repeat("9", 40)}

func (g fakeGit) CurrentBranch(context.Context) (string, error) {
	if g.branch == "" && g.err == nil {
		return "", ErrDetached
	}
	return g.branch, g.err
}

func (g fakeGit) RemoteHead(context.Context) (string, error) {
	if g.remoteHead == "" && g.err == nil {
		return "", errors.New("origin is away")
	}
	return g.remoteHead, g.err
}

func (g fakeGit) HasBranch(_ context.Context, name string) (bool, error) {
	for _, branch := range g.branches {
		if branch == name {
			return true, nil
		}
	}
	return false, g.err
}

func (g fakeGit) Commit(context.Context) (string, error) { return g.commit, g.err }

func lookup(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

// recorded is an environment in testdata/PROVIDER/CASE.env. Files that it
// names are beside it. They were written after the vendors' documentation.
type recorded struct{ provider, name, dir string }

func recordings(t *testing.T) []recorded {
	t.Helper()
	paths, err := filepath.Glob("testdata/*/*.env")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recorded environments: %v", err)
	}
	var all []recorded
	for _, path := range paths {
		dir := filepath.Dir(path)
		all = append(all, recorded{filepath.Base(dir), strings.TrimSuffix(filepath.Base(path), ".env"), dir})
	}
	return all
}

func (r recorded) input(t *testing.T) Input {
	t.Helper()
	file, err := os.Open(filepath.Join(r.dir, r.name+".env"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	env := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if !ok {
			t.Fatalf("%s: not NAME=VALUE: %s", file.Name(), lines.Text())
		}
		env[name] = value
	}
	return Input{Getenv: lookup(env), Open: openIn(r.dir), Git: recordedGit}
}

func openIn(dir string) func(string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) }
}

// TestDetectRecorded compares with golden files, and checks what the names of
// the cases promise, so that -update cannot bless a mistake in what matters.
func TestDetectRecorded(t *testing.T) {
	for _, r := range recordings(t) {
		t.Run(r.provider+"/"+r.name, func(t *testing.T) {
			t.Parallel()
			facts, warnings := Detect(t.Context(), r.input(t))
			compareGolden(t, filepath.Join(r.dir, r.name+".golden.json"), struct {
				Facts    Facts
				Warnings []string
			}{facts, warnings})

			want := TrustOwn
			switch kind, _, _ := strings.Cut(r.name, "-"); kind {
			case "fork":
				want = TrustFork
			case "unknown":
				want = TrustUnknown
			}
			if facts.Trust != want {
				t.Errorf("trust is %s, the name promises %s", facts.Trust, want)
			}
			if facts.Provider != r.provider || Provider(r.input(t).Getenv) != r.provider {
				t.Errorf("provider is %s, and %s at first sight", facts.Provider, Provider(r.input(t).Getenv))
			}
			isPull := strings.Contains(r.name, "pull-request") || strings.Contains(r.name, "merge-request")
			if isPull && r.name != "branch-with-pull-request" && facts.PullRequest == nil {
				t.Error("no pull request, the name promises one")
			}
			if isTag := strings.Contains(r.name, "tag"); isTag && (facts.Tag != "v1.2.0" || facts.Branch != "") {
				t.Errorf("tag %q, branch %q; the name promises a tag and no branch", facts.Tag, facts.Branch)
			}
		})
	}
}

// TestEveryProviderIsRecorded keeps a platform from being added untested.
func TestEveryProviderIsRecorded(t *testing.T) {
	have := map[string]bool{}
	for _, r := range recordings(t) {
		have[r.provider] = true
	}
	for _, p := range providers {
		if !have[p.name] {
			t.Errorf("no recorded environment of %s", p.name)
		}
	}
}

func compareGolden(t *testing.T, path string, value any) {
	t.Helper()
	got, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", path, diff)
	}
}

// TestPitfalls states by hand what is easily got wrong.
func TestPitfalls(t *testing.T) {
	type want struct {
		branch, base, defaultBranch, number string
		trust                               Trust
		queue                               bool
	}
	queue := "gh-readonly-queue/trunk/pr-12-4f8b2d6c1e0a9f7b3c5d8e2a6b4c0d1e9f7a3b52"
	tests := []struct {
		provider, name, pitfall string
		want                    want
	}{
		{"github", "fork-pull-request", "a fork's branch may be called like our default branch",
			want{"trunk", "trunk", "trunk", "12", TrustFork, false}},
		{"github", "fork-deleted", "head.repo is null",
			want{"feat/x", "trunk", "trunk", "12", TrustFork, false}},
		{"github", "fork-pull-request-target", "GITHUB_REF is the base, the job holds secrets",
			want{"feat/x", "trunk", "trunk", "12", TrustFork, false}},
		{"github", "fork-workflow-run", "GITHUB_REF is the default branch, the job holds secrets",
			want{"trunk", "", "trunk", "", TrustFork, false}},
		{"github", "unknown-comment", "GITHUB_REF is the default branch, anybody can comment",
			want{"", "", "trunk", "12", TrustUnknown, false}},
		{"github", "merge-queue-under-act", "GITHUB_REF is the base",
			want{queue, "trunk", "trunk", "", TrustOwn, true}},
		{"circleci", "fork-pull-request", "the branch is pull/N",
			want{"pull/12", "", "default-by-git", "12", TrustFork, false}},
		{"circleci", "branch-with-pull-request", "the branch is built, not the pull request",
			want{"feat/x", "", "default-by-git", "", TrustOwn, false}},
		{"azure", "branch", "BUILD_SOURCEBRANCHNAME is the last segment",
			want{"feature/tools", "", "default-by-git", "", TrustOwn, false}},
		{"azure", "pull-request", "TARGETBRANCH with refs/heads/",
			want{"feature/tools", "main", "default-by-git", "12", TrustOwn, false}},
		{"azure", "github-pull-request", "TARGETBRANCH without, and an id that is no number",
			want{"feature/tools", "main", "default-by-git", "12", TrustOwn, false}},
		{"azure", "github-merge-queue", "a base with a slash",
			want{"gh-readonly-queue/release/2/pr-12-4f8b2d6c1e0a9f7b3c5d8e2a6b4c0d1e9f7a3b52", "release/2", "default-by-git", "", TrustOwn, true}},
		{"gitlab", "merge-request", "CI_COMMIT_BRANCH is unset",
			want{"feat/x", "release/2", "trunk", "12", TrustOwn, false}},
		{"gitlab", "fork-merge-request-in-the-fork", "the pipeline runs in the fork",
			want{"feat/x", "release/2", "trunk", "12", TrustFork, false}},
		{"buildkite", "pull-request", "one repository, two spellings of its address",
			want{"feat/x", "release/2", "trunk", "12", TrustOwn, false}},
		{"buildkite", "fork-pull-request", "the branch has its owner in front",
			want{"feat/x", "release/2", "trunk", "12", TrustFork, false}},
		{"jenkins", "pull-request", "BRANCH_NAME is PR-N",
			want{"feat/x", "release/2", "default-by-git", "12", TrustOwn, false}},
		{"jenkins", "freestyle", "GIT_BRANCH has the remote in front",
			want{"feat/x", "", "default-by-git", "", TrustOwn, false}},
		{"drone", "unknown-pull-request-without-source", "git and DRONE_BRANCH are on the base",
			want{"", "release/2", "trunk", "12", TrustUnknown, false}},
		{"woodpecker", "unknown-pull-request", "CI_COMMIT_BRANCH is the base",
			want{"feat/x", "release/2", "trunk", "12", TrustUnknown, false}},
		{"travis", "pull-request", "TRAVIS_BRANCH is the base",
			want{"feat/x", "release/2", "default-by-git", "12", TrustOwn, false}},
		{"teamcity", "default", "the branch is called <default>",
			want{"branch-by-git", "", "default-by-git", "", TrustOwn, false}},
	}
	for _, tt := range tests {
		t.Run(tt.provider+"/"+tt.name, func(t *testing.T) {
			t.Parallel()
			r := recorded{tt.provider, tt.name, filepath.Join("testdata", tt.provider)}
			f, _ := Detect(t.Context(), r.input(t))
			got := want{f.Branch, f.BaseBranch, f.DefaultBranch, "", f.Trust, f.MergeQueue}
			if f.PullRequest != nil {
				got.number = f.PullRequest.Number
			}
			if got != tt.want {
				t.Errorf("%s:\n got %+v\nwant %+v", tt.pitfall, got, tt.want)
			}
		})
	}
}
