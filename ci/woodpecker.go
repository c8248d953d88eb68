package ci

import "strings"

// isWoodpecker: CI is not "true" here.
func isWoodpecker(env func(string) string) bool { return env("CI") == "woodpecker" }

// woodpeckerFacts reads Woodpecker CI.
// https://woodpecker-ci.org/docs/usage/environment#built-in-environment-variables
//
// CI_COMMIT_BRANCH is the target branch on a pull request. Forks are not told.
func woodpeckerFacts(p *platform) Facts {
	f := Facts{
		Event:  p.env("CI_PIPELINE_EVENT"),
		Tag:    p.env("CI_COMMIT_TAG"),
		Commit: p.env("CI_COMMIT_SHA"),
	}
	f.DefaultBranch, f.DefaultBranchSource = p.first("CI_REPO_DEFAULT_BRANCH")
	number := p.env("CI_COMMIT_PULL_REQUEST")
	if number == "" && !strings.HasPrefix(f.Event, "pull_request") {
		f.Branch, f.BranchSource = p.first("CI_COMMIT_BRANCH")
		return f
	}
	f.Branch, f.BranchSource = p.first("CI_COMMIT_SOURCE_BRANCH")
	f.BaseBranch, _ = p.first("CI_COMMIT_TARGET_BRANCH", "CI_COMMIT_BRANCH")
	f.PullRequest = &PullRequest{Number: number, Head: f.Branch}
	return f
}
