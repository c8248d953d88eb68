package ci

// gitlabFacts reads GitLab CI/CD.
// https://docs.gitlab.com/ci/variables/predefined_variables/
//
// CI_COMMIT_BRANCH is unset in merge request and tag pipelines.
func gitlabFacts(p *platform) Facts {
	f := Facts{
		Event:  p.env("CI_PIPELINE_SOURCE"),
		Tag:    p.env("CI_COMMIT_TAG"),
		Commit: p.env("CI_COMMIT_SHA"),
	}
	f.DefaultBranch, f.DefaultBranchSource = p.first("CI_DEFAULT_BRANCH")
	switch {
	case p.env("CI_MERGE_REQUEST_IID") != "":
		f.fromGitlabMergeRequest(p)
	case p.env("CI_EXTERNAL_PULL_REQUEST_IID") != "":
		f.fromGitlabExternalPullRequest(p)
	default:
		f.Branch, f.BranchSource = p.first("CI_COMMIT_BRANCH")
	}
	return f
}

func (f *Facts) fromGitlabMergeRequest(p *platform) {
	f.Branch, f.BranchSource = p.first("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")
	f.BaseBranch = p.env("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
	repository, _ := p.first("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID")
	f.PullRequest = &PullRequest{
		Number:         p.env("CI_MERGE_REQUEST_IID"),
		Head:           f.Branch,
		HeadRepository: repository,
	}
	f.MergeQueue = p.env("CI_MERGE_REQUEST_EVENT_TYPE") == "merge_train"
	// Not CI_PROJECT_ID: a fork's pipeline may run in the fork or here.
	f.Trust = trustByRepository(p.env("CI_MERGE_REQUEST_SOURCE_PROJECT_ID"), p.env("CI_MERGE_REQUEST_PROJECT_ID"))
}

// fromGitlabExternalPullRequest serves projects that mirror GitHub.
// https://docs.gitlab.com/ci/ci_cd_for_external_repos/#pipelines-for-external-pull-requests
func (f *Facts) fromGitlabExternalPullRequest(p *platform) {
	f.Branch, f.BranchSource = p.first("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME")
	f.BaseBranch = p.env("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME")
	f.PullRequest = &PullRequest{
		Number:         p.env("CI_EXTERNAL_PULL_REQUEST_IID"),
		Head:           f.Branch,
		HeadRepository: p.env("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY"),
	}
	f.Trust = trustByRepository(f.PullRequest.HeadRepository, p.env("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY"))
}
