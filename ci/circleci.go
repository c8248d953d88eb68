package ci

import (
	"path"
	"strings"
)

// circleciFacts reads CircleCI.
// https://circleci.com/docs/reference/variables/#built-in-environment-variables
//
// There is no variable for the default branch; the orb hands over what only
// pipeline values know.
func circleciFacts(p *platform) Facts {
	f := Facts{Tag: p.env("CIRCLE_TAG"), Commit: p.env("CIRCLE_SHA1")}
	f.Branch, f.BranchSource = p.first("CIRCLE_BRANCH")

	// CIRCLE_PR_* exist on pull requests of forks only, and the branch is
	// then called pull/N, so the head's name is not known.
	number, isPull := pullRequestNumber(f.Branch)
	owner, repository := p.env("CIRCLE_PR_USERNAME"), p.env("CIRCLE_PR_REPONAME")
	if forkNumber := p.env("CIRCLE_PR_NUMBER"); forkNumber != "" {
		number, isPull = forkNumber, true
	}
	if isPull || owner != "" || repository != "" {
		f.PullRequest = &PullRequest{Number: number, HeadRepository: strings.Trim(owner+"/"+repository, "/")}
		f.Trust = TrustFork
		return f
	}

	// CIRCLE_PULL_REQUEST is set as soon as some pull request has this branch
	// as its head. Where CIRCLE_PR_* would tell a fork (OAuth and Bitbucket
	// Cloud, known by CIRCLE_REPOSITORY_URL) this is then a branch of our own
	// and built as such; with the GitHub App it may be anybody's.
	if pull := p.env("CIRCLE_PULL_REQUEST"); pull != "" && p.env("CIRCLE_REPOSITORY_URL") == "" {
		f.PullRequest = &PullRequest{Number: path.Base(pull), Head: f.Branch}
		f.Trust = TrustUnknown
	}
	return f
}
