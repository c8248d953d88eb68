package ci

import "cmp"

// teamcityFacts reads TeamCity, which keeps most of what it knows in build
// parameters. A build hands them over as environment variables:
//
//	env.TEAMCITY_BUILD_BRANCH              = %teamcity.build.branch%
//	env.TEAMCITY_PULLREQUEST_NUMBER        = %teamcity.pullRequest.number%
//	env.TEAMCITY_PULLREQUEST_SOURCE_BRANCH = %teamcity.pullRequest.source.branch%
//	env.TEAMCITY_PULLREQUEST_TARGET_BRANCH = %teamcity.pullRequest.target.branch%
//
// https://www.jetbrains.com/help/teamcity/predefined-build-parameters.html
// https://www.jetbrains.com/help/teamcity/pull-requests.html
//
// Without them git says which branch is checked out, and a pull request cannot
// be told from a branch. Forks are not told.
func teamcityFacts(p *platform) Facts {
	f := Facts{Commit: p.env("BUILD_VCS_NUMBER")}
	full, source := p.first("TEAMCITY_BUILD_BRANCH")
	if full == "<default>" { // what the parameter is when no label was configured
		full, source = "", ""
	}
	named := parseRef(full)
	if number, ok := pullRequestNumber(named.branch); ok {
		named = ref{pullRequest: number}
	}
	number, _ := p.first("TEAMCITY_PULLREQUEST_NUMBER")
	if number = cmp.Or(number, named.pullRequest); number == "" {
		f.Branch, f.BranchSource, f.Tag = named.branch, source, named.tag
		return f
	}
	f.Branch, f.BranchSource = p.first("TEAMCITY_PULLREQUEST_SOURCE_BRANCH")
	f.BaseBranch = p.env("TEAMCITY_PULLREQUEST_TARGET_BRANCH")
	f.PullRequest = &PullRequest{Number: number, Head: f.Branch}
	return f
}
