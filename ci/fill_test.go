package ci

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestDefaultBranch(t *testing.T) {
	gone := errors.New("git ls-remote: exit status 128")
	tests := []struct {
		name         string
		env          map[string]string
		git          Git
		want, source string
	}{
		{"HEAD of origin before branches", nil,
			fakeGit{branch: "x", remoteHead: "trunk", branches: []string{"master", "main"}}, "trunk", "git: HEAD of origin"},
		{"master exists", nil,
			fakeGit{branch: "x", branches: []string{"master"}}, "master", "git: a branch of this name exists"},
		{"main exists", nil,
			fakeGit{branch: "x", branches: []string{"main"}}, "main", "git: a branch of this name exists"},
		{"both exist", nil,
			fakeGit{branch: "x", branches: []string{"master", "main"}}, "main", "git: a branch of this name exists"},
		{"neither exists", nil,
			fakeGit{branch: "x"}, "master", "assumed"},
		{"no git", nil, nil, "master", "assumed"},
		{"the branch of a build that git cannot see",
			map[string]string{"CIRCLECI": "true", "CIRCLE_BRANCH": "main"}, fakeGit{err: gone}, "main", "this build's branch"},
		{"the base of a pull request",
			map[string]string{"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_BRANCH": "x", "BITBUCKET_PR_ID": "2", "BITBUCKET_PR_DESTINATION_BRANCH": "main"},
			fakeGit{err: gone}, "main", "this build's branch"},
		{"a fork's main is not ours",
			map[string]string{"TRAVIS": "true", "TRAVIS_BRANCH": "develop", "TRAVIS_PULL_REQUEST": "2", "TRAVIS_PULL_REQUEST_BRANCH": "main"},
			fakeGit{err: gone}, "master", "assumed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			facts, warnings := Detect(t.Context(), Input{Getenv: lookup(tt.env), Git: tt.git})
			if facts.DefaultBranch != tt.want || facts.DefaultBranchSource != tt.source {
				t.Errorf("got %q from %q, want %q from %q", facts.DefaultBranch, facts.DefaultBranchSource, tt.want, tt.source)
			}
			if said := strings.Contains(strings.Join(warnings, "\n"), "assumed"); said != (tt.source == "assumed") {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

func TestBranchByGit(t *testing.T) {
	tests := []struct {
		name             string
		git              Git
		branch, source   string
		provider, commit string
	}{
		{"a branch", fakeGit{branch: "feat/x", commit: "4f8b2d6"}, "feat/x", "git", "git", "4f8b2d6"},
		{"no commit yet", fakeGit{branch: "feat/x"}, "feat/x", "git", "git", ""},
		{"detached", fakeGit{commit: "4f8b2d6"}, "", "HEAD is detached", "git", "4f8b2d6"},
		{"a harmful name", fakeGit{branch: "a\x1bb", commit: "4f8b2d6"}, "", `branch name "a\x1bb" contains control characters`, "git", "4f8b2d6"},
		{"no repository", fakeGit{err: ErrNotARepository}, "", "not in a git repository", "none", ""},
		{"no git", fakeGit{err: ErrNoGit}, "", "git is not installed", "none", ""},
		{"nothing given", nil, "", "git is not installed", "none", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			facts, warnings := Detect(t.Context(), Input{Getenv: lookup(nil), Git: tt.git})
			if facts.Branch != tt.branch || facts.BranchSource != tt.source || facts.Provider != tt.provider || facts.Commit != tt.commit {
				t.Errorf("got %+v", facts)
			}
			if facts.Trust != TrustOwn || facts.PullRequest != nil {
				t.Errorf("a laptop is not trusted: %+v", facts)
			}
			if said := strings.Contains(strings.Join(warnings, "\n"), "no branch: "+tt.source); said != (tt.branch == "") {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

// unaskedGit fails the test when it is asked.
type unaskedGit struct{ t *testing.T }

func (g unaskedGit) CurrentBranch(context.Context) (string, error) {
	g.t.Error("asked for the branch")
	return "", nil
}

func (g unaskedGit) RemoteHead(context.Context) (string, error) {
	g.t.Error("asked the remote")
	return "", nil
}

func (g unaskedGit) HasBranch(context.Context, string) (bool, error) {
	g.t.Error("asked for a branch")
	return false, nil
}

func (g unaskedGit) Commit(context.Context) (string, error) { return "", nil }

func TestUserWins(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"laptop":       nil,
		"branch":       {"GITLAB_CI": "true", "CI_COMMIT_BRANCH": "other", "CI_DEFAULT_BRANCH": "other"},
		"tag":          {"GITLAB_CI": "true", "CI_COMMIT_TAG": "v1"},
		"pull request": {"TRAVIS": "true", "TRAVIS_PULL_REQUEST": "2", "TRAVIS_PULL_REQUEST_BRANCH": "other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts, warnings := Detect(t.Context(), Input{
				Getenv: lookup(env), Git: unaskedGit{t}, Branch: "mine", DefaultBranch: "trunk",
			})
			if facts.Branch != "mine" || facts.BranchSource != "--branch" ||
				facts.DefaultBranch != "trunk" || facts.DefaultBranchSource != "--default-branch" {
				t.Errorf("got %+v", facts)
			}
			if len(warnings) > 0 {
				t.Errorf("warnings: %q", warnings)
			}
			if isPull := name == "pull request"; (facts.PullRequest != nil) != isPull || (facts.Trust == TrustOwn) == isPull {
				t.Errorf("a branch that the user names changes whose code it is: %+v", facts)
			}
		})
	}
}

func TestMergeQueueOfAStranger(t *testing.T) {
	facts, _ := Detect(t.Context(), Input{Getenv: lookup(map[string]string{
		"TRAVIS": "true", "TRAVIS_BRANCH": "develop", "TRAVIS_PULL_REQUEST": "2",
		"TRAVIS_PULL_REQUEST_BRANCH": "gh-readonly-queue/main/pr-1-4f8b",
	})})
	if facts.MergeQueue || facts.BaseBranch != "develop" {
		t.Errorf("a pull request poses as a merge queue: %+v", facts)
	}
}

func TestUnknownPlatform(t *testing.T) {
	for value, want := range map[string]bool{"true": true, "1": true, "false": false, "": false} {
		_, warnings := Detect(t.Context(), Input{Getenv: lookup(map[string]string{"CI": value}), Git: recordedGit})
		if got := len(warnings) == 1; got != want {
			t.Errorf("CI=%q: warnings %q", value, warnings)
		}
	}
}
