package ci

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCheckBranch(t *testing.T) {
	for name, ok := range map[string]bool{
		"main":                       true,
		"feat/x":                     true,
		"stranger:feat/x":            true,
		"größe/日本語/🚀":                true,
		"a b":                        true,
		strings.Repeat("x", 1024):    true,
		"":                           false,
		strings.Repeat("x", 1025):    false,
		"x\n::set-output name=a::b":  false,
		"x\r":                        false,
		"x\x00":                      false,
		"\x1b[31mred":                false,
		"c1\u009bcsi":                false,
		"line\u2028separator":        false,
		"evil\u202egnp.exe":          false,
		"mark\u200f":                 false,
		"not utf-8 \xff":             false,
		"encoded surrogate \xed\xa0": false,
	} {
		if err := checkBranch(name); (err == nil) != ok {
			t.Errorf("checkBranch(%q) = %v, want ok: %t", name, err, ok)
		}
	}
}

func TestDetectRefusesBadNames(t *testing.T) {
	const bad = "x\n##vso[task.setvariable]"
	facts, warnings := Detect(t.Context(), Input{
		Getenv: lookup(map[string]string{
			"TRAVIS": "true", "TRAVIS_EVENT_TYPE": bad, "TRAVIS_COMMIT": bad, "TRAVIS_TAG": bad,
			"TRAVIS_BRANCH": bad, "TRAVIS_PULL_REQUEST": "1" + bad, "TRAVIS_PULL_REQUEST_BRANCH": bad,
			"TRAVIS_PULL_REQUEST_SLUG": bad, "TRAVIS_REPO_SLUG": "acme/app",
		}),
		Git: fakeGit{branch: "wrong", remoteHead: bad},
	})
	if facts.Branch != "" || facts.BranchSource != "TRAVIS_PULL_REQUEST_BRANCH cannot be used" {
		t.Errorf("branch %q from %q", facts.Branch, facts.BranchSource)
	}
	if facts.DefaultBranch != "master" || facts.DefaultBranchSource != "assumed" {
		t.Errorf("default branch %q from %q", facts.DefaultBranch, facts.DefaultBranchSource)
	}
	if facts.PullRequest == nil || *facts.PullRequest != (PullRequest{}) || facts.Trust != TrustFork {
		t.Errorf("pull request %+v, trust %s; want an empty one of a fork", facts.PullRequest, facts.Trust)
	}
	if len(warnings) < 4 {
		t.Errorf("refused in silence: %q", warnings)
	}
	checkHarmless(t, facts, warnings)
}

func TestDetectRefusesBadOptions(t *testing.T) {
	t.Parallel()
	const bad = "x\u202e\n::error::y"
	facts, warnings := Detect(t.Context(), Input{Getenv: lookup(nil), Branch: bad, DefaultBranch: bad, Git: fakeGit{branch: "wrong", remoteHead: "main"}})
	if facts.Branch != "" || facts.BranchSource != "--branch cannot be used" || facts.DefaultBranch != "main" {
		t.Errorf("branch %q from %q, default branch %q", facts.Branch, facts.BranchSource, facts.DefaultBranch)
	}
	if len(warnings) < 2 {
		t.Errorf("refused in silence: %q", warnings)
	}
	checkHarmless(t, facts, warnings)
}

// checkHarmless is the promise of the package: nothing that Detect returns
// can break out of a line of a log, and it says where each fact came from.
func checkHarmless(t *testing.T, f Facts, warnings []string) {
	t.Helper()
	texts := append([]string{
		f.Provider, f.Event, f.Branch, f.BranchSource, f.BaseBranch, f.DefaultBranch,
		f.DefaultBranchSource, f.Tag, f.Commit, string(f.Trust), f.TrustReason,
	}, warnings...)
	if pr := f.PullRequest; pr != nil {
		texts = append(texts, pr.Number, pr.Head, pr.HeadRepository)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("harmful: %q", text)
		}
	}
	if f.BranchSource == "" || f.DefaultBranch == "" || f.DefaultBranchSource == "" || f.TrustReason == "" {
		t.Errorf("unexplained: %+v", f)
	}
	switch f.Trust {
	case TrustOwn, TrustFork, TrustUnknown:
	default:
		t.Errorf("trust is %q", f.Trust)
	}
}

// marks is what sets a platform apart.
var marks = map[string]string{
	"github": "GITHUB_ACTIONS", "circleci": "CIRCLECI", "azure": "TF_BUILD", "gitlab": "GITLAB_CI",
	"buildkite": "BUILDKITE", "jenkins": "JENKINS_URL", "bitbucket": "BITBUCKET_BUILD_NUMBER",
	"woodpecker": "CI", "drone": "DRONE", "travis": "TRAVIS", "teamcity": "TEAMCITY_VERSION",
	"cloudbuild": "BUILDER_OUTPUT",
}

// FuzzNames puts one text in every variable of every platform: whatever it
// is, nothing harmful comes out.
func FuzzNames(f *testing.F) {
	for _, text := range []string{
		"main", "refs/heads/a/b", "refs/tags/v1", "refs/pull/12/merge", "pull/12", "stranger:x", "origin/x",
		"gh-readonly-queue/main/pr-1-a", "<default>", "a\x1b[31m", "\u202e", "\xff", "git@h:o/n.git", "http://[", "false",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, known := range providers {
			env := func(name string) string {
				if name == marks[known.name] {
					return "woodpecker" // the one mark that must be a word
				}
				for _, mark := range marks {
					if name == mark || name == "JENKINS_HOME" {
						return ""
					}
				}
				return text
			}
			facts, warnings := Detect(t.Context(), Input{Getenv: env, Git: recordedGit})
			if facts.Provider != known.name {
				t.Errorf("%s was taken for %s", known.name, facts.Provider)
			}
			checkHarmless(t, facts, warnings)
		}
	})
}
