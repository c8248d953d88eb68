package ci

// travisFacts reads Travis CI.
// https://docs.travis-ci.com/user/environment-variables/#default-environment-variables
//
// TRAVIS_BRANCH is the branch on a push, the base on a pull request and the
// tag's own name on a tag. The default branch is not told.
func travisFacts(p *platform) Facts {
	f := Facts{
		Event:  p.env("TRAVIS_EVENT_TYPE"),
		Tag:    p.env("TRAVIS_TAG"),
		Commit: p.env("TRAVIS_COMMIT"),
	}
	number := p.env("TRAVIS_PULL_REQUEST")
	if isFalse(number) {
		f.Branch, f.BranchSource = p.first("TRAVIS_BRANCH")
		return f
	}
	f.Branch, f.BranchSource = p.first("TRAVIS_PULL_REQUEST_BRANCH")
	f.BaseBranch = p.env("TRAVIS_BRANCH")
	head := p.env("TRAVIS_PULL_REQUEST_SLUG")
	f.PullRequest = &PullRequest{Number: number, Head: f.Branch, HeadRepository: head}
	f.Trust = trustByRepository(head, p.env("TRAVIS_REPO_SLUG"))
	return f
}
