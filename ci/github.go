package ci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// maxEventSize in bytes: GitHub sends no payload above 25 MB.
// https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap
const maxEventSize = 32 << 20

// eventsOfWriters are caused only by people who can write to the repository,
// and build what they wrote. Anybody can comment, open an issue or have a
// check run, and such jobs hold secrets.
// https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
var eventsOfWriters = []string{
	"", // not on GitHub itself, which always names the event
	"push", "create", "schedule", "workflow_dispatch", "repository_dispatch",
	"release", "deployment", "merge_group",
}

// githubEvent is the part of GITHUB_EVENT_PATH's payload that tells facts.
// https://docs.github.com/en/webhooks/webhook-events-and-payloads
type githubEvent struct {
	Repository  *githubRepository `json:"repository"`
	PullRequest *struct {
		Number int64     `json:"number"`
		Head   githubEnd `json:"head"`
		Base   githubEnd `json:"base"`
	} `json:"pull_request"`
	MergeGroup *struct {
		HeadRef string `json:"head_ref"`
		BaseRef string `json:"base_ref"`
	} `json:"merge_group"`
	WorkflowRun *githubRun `json:"workflow_run"`
	Issue       *struct {
		Number      int64     `json:"number"`
		PullRequest *struct{} `json:"pull_request"`
	} `json:"issue"`
}

type githubRepository struct {
	FullName      string `json:"full_name"`
	DefaultBranch string `json:"default_branch"`
}

// githubEnd is a head or a base. Repo is null when a fork was deleted.
type githubEnd struct {
	Ref  string            `json:"ref"`
	Repo *githubRepository `json:"repo"`
}

// githubRun is the finished run that a workflow_run event is about.
type githubRun struct {
	Event          string            `json:"event"`
	HeadBranch     string            `json:"head_branch"`
	HeadRepository *githubRepository `json:"head_repository"`
	// PullRequests is empty when the run was that of a fork.
	PullRequests []struct {
		Number int64     `json:"number"`
		Base   githubEnd `json:"base"`
	} `json:"pull_requests"`
}

// githubFacts reads GitHub Actions.
// https://docs.github.com/en/actions/reference/workflows-and-actions/variables
func githubFacts(p *platform) Facts {
	f := Facts{Event: p.env("GITHUB_EVENT_NAME"), Commit: p.env("GITHUB_SHA")}
	var event githubEvent
	if path := p.env("GITHUB_EVENT_PATH"); path != "" && p.open != nil {
		var err error
		if event, err = readGithubEvent(p.open, path); err != nil {
			p.warnf("event payload (GITHUB_EVENT_PATH): %v", err)
		}
	}
	if r := event.Repository; r != nil && r.DefaultBranch != "" {
		f.DefaultBranch, f.DefaultBranchSource = r.DefaultBranch, "event: repository.default_branch"
	}
	switch {
	case f.Event == "workflow_run":
		f.fromGithubRun(event)
	case event.PullRequest != nil:
		f.fromGithubPullRequest(event)
	case p.env("GITHUB_HEAD_REF") != "":
		f.fromGithubHeadRef(p)
	case event.Issue != nil && event.Issue.PullRequest != nil:
		f.PullRequest = &PullRequest{Number: digits(event.Issue.Number)}
		f.BranchSource = "a comment does not name the pull request's branch"
	default:
		f.fromGithubRef(p, event)
	}
	return f
}

// fromGithubRef takes the ref that is built. GITHUB_REF is read before
// GITHUB_REF_NAME because it cannot be mistaken for another kind of ref.
func (f *Facts) fromGithubRef(p *platform, event githubEvent) {
	full, source := p.first("GITHUB_REF")
	if full == "" {
		full, source = p.first("GITHUB_REF_NAME")
		if p.env("GITHUB_REF_TYPE") == "tag" {
			full = "refs/tags/" + full
		}
	}
	if group := event.MergeGroup; group != nil {
		full, source = group.HeadRef, "event: merge_group.head_ref"
		f.MergeQueue = true
		f.BaseBranch = parseRef(group.BaseRef).branch
	}
	named := parseRef(full)
	f.Branch, f.BranchSource, f.Tag = named.branch, source, named.tag
	if named.pullRequest != "" {
		f.PullRequest = &PullRequest{Number: named.pullRequest}
		f.BranchSource = "neither GITHUB_HEAD_REF nor an event payload names the pull request's branch"
		return
	}
	if !slices.Contains(eventsOfWriters, f.Event) {
		f.Trust = TrustUnknown
		f.TrustReason = fmt.Sprintf("anybody may cause the event %q", f.Event)
	}
}

// fromGithubPullRequest serves every event that carries a pull request.
// pull_request_target runs with the base's secrets whoever wrote the head, so
// the head's repository decides, never the ref that the run has.
func (f *Facts) fromGithubPullRequest(event githubEvent) {
	pull := event.PullRequest
	f.PullRequest = &PullRequest{Number: digits(pull.Number), Head: pull.Head.Ref}
	f.Branch, f.BranchSource = pull.Head.Ref, "event: pull_request.head.ref"
	f.BaseBranch = pull.Base.Ref
	f.trustGithubHead(pull.Head.Repo, orRepository(pull.Base.Repo, event.Repository))
}

// trustGithubHead compares the head's repository with ours.
func (f *Facts) trustGithubHead(head, own *githubRepository) {
	switch {
	case head == nil || head.FullName == "":
		f.Trust, f.TrustReason = TrustFork, "the pull request's repository was deleted"
	case own == nil:
		f.Trust = TrustUnknown
	default:
		f.PullRequest.HeadRepository = head.FullName
		f.Trust = trustByRepository(head.FullName, own.FullName)
	}
}

func orRepository(r, fallback *githubRepository) *githubRepository {
	if r == nil {
		return fallback
	}
	return r
}

// fromGithubHeadRef makes do without the event payload, which a container
// step may not see.
func (f *Facts) fromGithubHeadRef(p *platform) {
	f.PullRequest = &PullRequest{
		Number: parseRef(p.env("GITHUB_REF")).pullRequest,
		Head:   p.env("GITHUB_HEAD_REF"),
	}
	f.Branch, f.BranchSource = p.first("GITHUB_HEAD_REF")
	f.BaseBranch = p.env("GITHUB_BASE_REF")
	f.Trust = TrustUnknown
	f.TrustReason = "without the event payload (GITHUB_EVENT_PATH) a fork cannot be told"
}

// fromGithubRun serves workflow_run: a job with secrets, on the default
// branch by its own account, that follows a run of somebody else's code.
// https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows#workflow_run
func (f *Facts) fromGithubRun(event githubEvent) {
	run := event.WorkflowRun
	if run == nil {
		f.BranchSource = "a workflow_run event without its payload does not name the branch"
		f.Trust, f.TrustReason = TrustUnknown, "it is not known whose run this job follows"
		return
	}
	f.Branch, f.BranchSource = run.HeadBranch, "event: workflow_run.head_branch"
	sameRepository := run.HeadRepository != nil && event.Repository != nil &&
		trustByRepository(run.HeadRepository.FullName, event.Repository.FullName) == TrustOwn
	if run.Event == "push" && sameRepository {
		f.TrustReason = "the job follows a push to this repository"
		return
	}
	// Whatever else started that run is treated as a pull request: it may
	// have been one even if its event (workflow_run again) hides it.
	f.PullRequest = &PullRequest{Head: run.HeadBranch}
	if len(run.PullRequests) > 0 {
		f.PullRequest.Number = digits(run.PullRequests[0].Number)
		f.BaseBranch = run.PullRequests[0].Base.Ref
	}
	f.trustGithubHead(run.HeadRepository, event.Repository)
	if f.Trust == TrustOwn && run.Event != "pull_request" {
		f.Trust = TrustUnknown
		f.TrustReason = fmt.Sprintf("the job follows a run whose event was %q", run.Event)
	}
}

// digits is empty for a number that the payload lacks.
func digits(number int64) string {
	if number <= 0 {
		return ""
	}
	return strconv.FormatInt(number, 10)
}

func readGithubEvent(open func(string) (io.ReadCloser, error), path string) (githubEvent, error) {
	file, err := open(path)
	if err != nil {
		return githubEvent{}, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxEventSize+1))
	if err != nil {
		return githubEvent{}, fmt.Errorf("read: %w", err)
	}
	if len(data) > maxEventSize {
		return githubEvent{}, errors.New("larger than GitHub's own limit")
	}
	return parseGithubEvent(data)
}

// parseGithubEvent gives nothing of a payload that is broken anywhere.
func parseGithubEvent(data []byte) (githubEvent, error) {
	var event githubEvent
	if err := json.Unmarshal(data, &event); err != nil {
		return githubEvent{}, fmt.Errorf("parse: %w", err)
	}
	return event, nil
}
