package ci

import "strings"

// cloudbuildFacts reads Google Cloud Build, whose substitutions become
// variables only where a step maps them (or with automapSubstitutions).
// https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values
//
// A step that maps no _PR_NUMBER cannot be told from one of no pull request.
// The default branch is not told. _HEAD_REPO_URL and REPO_FULL_NAME tell forks.
func cloudbuildFacts(p *platform) Facts {
	f := Facts{Tag: p.env("TAG_NAME"), Commit: p.env("COMMIT_SHA")}
	number := p.env("_PR_NUMBER")
	if number == "" {
		f.Branch, f.BranchSource = p.first("BRANCH_NAME")
		return f
	}
	f.Branch, f.BranchSource = p.first("_HEAD_BRANCH")
	f.BaseBranch = p.env("_BASE_BRANCH")
	// REPO_FULL_NAME has no host; the trigger's repository is on the one of
	// the pull request.
	_, head, _ := strings.Cut(repositoryKey(p.env("_HEAD_REPO_URL")), "/")
	f.PullRequest = &PullRequest{Number: number, Head: f.Branch, HeadRepository: head}
	f.Trust = trustByRepository(head, p.env("REPO_FULL_NAME"))
	return f
}
