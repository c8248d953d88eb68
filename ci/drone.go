package ci

// droneFacts reads Drone.
// https://docs.drone.io/pipeline/environment/reference/
//
// DRONE_BRANCH is the target branch on a pull request, and DRONE_SOURCE_BRANCH
// may be empty. DRONE_REPO_BRANCH is the default branch. Forks are not told.
func droneFacts(p *platform) Facts {
	f := Facts{
		Event:  p.env("DRONE_BUILD_EVENT"),
		Tag:    p.env("DRONE_TAG"),
		Commit: p.env("DRONE_COMMIT_SHA"),
	}
	f.DefaultBranch, f.DefaultBranchSource = p.first("DRONE_REPO_BRANCH")
	number := p.env("DRONE_PULL_REQUEST")
	if number == "" && f.Event != "pull_request" {
		f.Branch, f.BranchSource = p.first("DRONE_BRANCH")
		return f
	}
	f.Branch, f.BranchSource = p.first("DRONE_SOURCE_BRANCH")
	f.BaseBranch, _ = p.first("DRONE_TARGET_BRANCH", "DRONE_BRANCH")
	f.PullRequest = &PullRequest{Number: number, Head: f.Branch}
	return f
}
