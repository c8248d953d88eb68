package ci

import (
	"cmp"
	"strings"
)

// azureFacts reads Azure Pipelines.
// https://learn.microsoft.com/en-us/azure/devops/pipelines/build/variables
//
// BUILD_SOURCEBRANCHNAME is not read: it is only the last segment of the
// branch (feature/tools becomes tools). There is no variable for the default
// branch.
func azureFacts(p *platform) Facts {
	f := Facts{Event: p.env("BUILD_REASON"), Commit: p.env("BUILD_SOURCEVERSION")}
	full, source := p.first("BUILD_SOURCEBRANCH")
	named := parseRef(full)
	f.Branch, f.BranchSource, f.Tag = named.branch, source, named.tag

	id := p.env("SYSTEM_PULLREQUEST_PULLREQUESTID")
	if named.pullRequest == "" && id == "" && f.Event != "PullRequest" {
		return f
	}
	// PULLREQUESTID is the number on Azure Repos, an internal one on GitHub.
	number, _ := p.first("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER")
	f.PullRequest = &PullRequest{Number: cmp.Or(number, named.pullRequest, id)}
	// Both are full refs or plain names, depending on where the code is.
	full, source = p.first("SYSTEM_PULLREQUEST_SOURCEBRANCH")
	f.Branch, f.BranchSource = parseRef(full).branch, source
	f.PullRequest.Head = f.Branch
	full, _ = p.first("SYSTEM_PULLREQUEST_TARGETBRANCH", "SYSTEM_PULLREQUEST_TARGETBRANCHNAME")
	f.BaseBranch = parseRef(full).branch
	switch isFork := p.env("SYSTEM_PULLREQUEST_ISFORK"); {
	case strings.EqualFold(isFork, "false"):
		f.Trust = TrustOwn
	case strings.EqualFold(isFork, "true"):
		f.Trust = TrustFork
	}
	return f
}
