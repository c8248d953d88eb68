package ci

// bitbucketFacts reads Bitbucket Pipelines.
// https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/
//
// The default branch is not told. Pull requests are our own: those of a fork
// start no pipeline here, they run in the fork and with its secrets.
// https://jira.atlassian.com/browse/BCLOUD-13162
func bitbucketFacts(p *platform) Facts {
	f := Facts{Tag: p.env("BITBUCKET_TAG"), Commit: p.env("BITBUCKET_COMMIT")}
	f.Branch, f.BranchSource = p.first("BITBUCKET_BRANCH")
	if number := p.env("BITBUCKET_PR_ID"); number != "" {
		f.PullRequest = &PullRequest{Number: number, Head: f.Branch}
		f.BaseBranch = p.env("BITBUCKET_PR_DESTINATION_BRANCH")
		f.Trust, f.TrustReason = TrustOwn, "Bitbucket builds pull requests of this repository only"
	}
	return f
}
