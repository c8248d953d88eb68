package ci

import "strings"

// isJenkins does without JENKINS_URL where nobody configured it.
func isJenkins(env func(string) string) bool {
	return env("JENKINS_URL") != "" || env("JENKINS_HOME") != "" && env("BUILD_ID") != ""
}

// jenkinsFacts reads Jenkins: multibranch jobs, and freestyle jobs with the
// git plugin.
// https://www.jenkins.io/doc/book/pipeline/multibranch/#additional-environment-variables
func jenkinsFacts(p *platform) Facts {
	f := Facts{Tag: p.env("TAG_NAME"), Commit: p.env("GIT_COMMIT")}
	switch {
	case p.env("CHANGE_ID") != "":
		f.fromJenkinsChange(p)
	case p.env("BRANCH_NAME") != "":
		f.Branch, f.BranchSource = p.first("BRANCH_NAME")
		if p.env("BRANCH_IS_PRIMARY") == "true" {
			f.DefaultBranch, f.DefaultBranchSource = f.Branch, "BRANCH_IS_PRIMARY"
		}
	default:
		f.fromJenkinsGit(p)
	}
	return f
}

// fromJenkinsChange serves pull requests, whose BRANCH_NAME is only PR-N.
//
// CHANGE_FORK is unset for a branch of our own, but also where the branch
// source cannot tell. Those that name the head (CHANGE_BRANCH: GitHub,
// GitLab, Bitbucket, Gitea) can.
// https://github.com/jenkinsci/branch-api-plugin/blob/master/src/main/java/jenkins/branch/BranchNameContributor.java
func (f *Facts) fromJenkinsChange(p *platform) {
	f.Branch, f.BranchSource = p.first("CHANGE_BRANCH")
	f.BaseBranch = p.env("CHANGE_TARGET")
	fork := p.env("CHANGE_FORK")
	f.PullRequest = &PullRequest{Number: p.env("CHANGE_ID"), Head: f.Branch, HeadRepository: fork}
	switch {
	case fork != "":
		f.Trust = TrustFork
	case f.Branch != "":
		f.Trust = TrustOwn
	}
}

// fromJenkinsGit reads what the git plugin says: the remote's branch, with
// the remote.
// https://plugins.jenkins.io/git/#plugin-content-environment-variables
func (f *Facts) fromJenkinsGit(p *platform) {
	name, source := p.first("GIT_BRANCH")
	name = strings.TrimPrefix(name, "refs/remotes/")
	name = strings.TrimPrefix(name, "origin/")
	if tag, ok := strings.CutPrefix(name, "tags/"); ok {
		name = "refs/tags/" + tag
	}
	if name == "" || name == "detached" || name == "HEAD" {
		return
	}
	named := parseRef(name)
	if number, ok := pullRequestNumber(named.branch); ok {
		named = ref{pullRequest: number}
	}
	f.Branch, f.BranchSource = named.branch, source
	if f.Tag == "" {
		f.Tag = named.tag
	}
	if named.pullRequest != "" {
		f.BranchSource = ""
		f.PullRequest = &PullRequest{Number: named.pullRequest}
	}
}
