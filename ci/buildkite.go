package ci

import "strings"

// buildkiteFacts reads Buildkite.
// https://buildkite.com/docs/pipelines/configure/environment-variables
func buildkiteFacts(p *platform) Facts {
	f := Facts{
		Event:  p.env("BUILDKITE_SOURCE"),
		Tag:    p.env("BUILDKITE_TAG"),
		Commit: p.env("BUILDKITE_COMMIT"),
	}
	f.Branch, f.BranchSource = p.first("BUILDKITE_BRANCH")
	f.DefaultBranch, f.DefaultBranchSource = p.first("BUILDKITE_PIPELINE_DEFAULT_BRANCH")
	// https://buildkite.com/docs/pipelines/integrations/source-control/github#running-builds-on-merge-queues
	if base := p.env("BUILDKITE_MERGE_QUEUE_BASE_BRANCH"); base != "" {
		f.MergeQueue, f.BaseBranch = true, base
	}
	number := p.env("BUILDKITE_PULL_REQUEST")
	if isFalse(number) {
		return f
	}
	// A fork's branch comes as owner:branch, unless a setting says otherwise;
	// git allows no colon in the name itself.
	if _, branch, prefixed := strings.Cut(f.Branch, ":"); prefixed {
		f.Branch = branch
	}
	head := p.env("BUILDKITE_PULL_REQUEST_REPO")
	f.PullRequest = &PullRequest{Number: number, Head: f.Branch, HeadRepository: repositoryKey(head)}
	f.BaseBranch = p.env("BUILDKITE_PULL_REQUEST_BASE_BRANCH")
	f.Trust = trustByAddress(head, p.env("BUILDKITE_REPO"))
	return f
}
