// Package ci tells what is known about the build that runs: which branch it
// belongs to, which branch it falls back to, and whose code it builds.
//
// Facts come from the variables of the CI platform (one file a platform, with
// the vendor's page for each rule) and, where the platform is silent or there
// is none, from git. Detect reads no global state: environment, files and git
// are handed in. What it returns is data; deciding what a build may read and
// write is the plan's business.
//
// Everything here can be written by strangers: a fork chooses the name of its
// branch. Names that could harm a terminal or a log are therefore refused.
//
// No API stability is promised: the product is the command.
package ci

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// Facts is what is known about the build that runs. An empty string means
// "not known".
type Facts struct {
	// Provider is the platform: the name of an entry of the provider table
	// ("github", "circleci", ...), "git" when there is only a repository, or
	// "none".
	Provider string
	// Event is what started the build, in the platform's own words
	// ("pull_request", "schedule").
	Event string

	// Branch is the branch that this build belongs to: of a pull request its
	// head branch, which may live in another repository. A build of a tag has
	// none.
	Branch string
	// BranchSource tells people where Branch came from ("GITHUB_HEAD_REF"),
	// or why there is none ("HEAD is detached").
	BranchSource string

	// BaseBranch is where the change will be merged: the target of a pull
	// request or of a merge queue. Empty for any other build.
	BaseBranch string

	// DefaultBranch is the branch that others start from. It is never empty.
	DefaultBranch string
	// DefaultBranchSource tells people where DefaultBranch came from.
	DefaultBranchSource string

	// Tag is the git tag that is built, if that is what started the build.
	Tag string
	// Commit is the object name of the commit that is built; on a pull
	// request often that of a merge which exists nowhere else.
	Commit string

	// PullRequest is nil when the build is not known to be that of a pull
	// request (or merge request). A pull request's head may be called like
	// the default branch, so Branch alone never shows what may be written.
	PullRequest *PullRequest
	// MergeQueue tells that the build tests what a merge queue (or merge
	// train) is about to merge. Its Branch lives only as long as the queue.
	MergeQueue bool

	// Trust says whose code is built, TrustReason why we think so.
	Trust       Trust
	TrustReason string
}

// PullRequest is a proposed change. Its base is Facts.BaseBranch.
type PullRequest struct {
	// Number is the platform's number for it, in digits.
	Number string
	// Head is its branch, in HeadRepository.
	Head string
	// HeadRepository is where the change comes from, as the platform writes
	// it: owner/name, an address, or a number. It is for people: whether it
	// is a fork is told by Facts.Trust.
	HeadRepository string
}

// Trust says whose code a build runs.
type Trust string

const (
	// TrustOwn is a build of code that somebody with write access to this
	// repository put there.
	TrustOwn Trust = "own"
	// TrustFork is a pull request from another repository.
	TrustFork Trust = "fork"
	// TrustUnknown is a build that may be of a stranger's code: the platform
	// does not say.
	TrustUnknown Trust = "unknown"
)

// The providers that are no platform.
const (
	ProviderGit  = "git"
	ProviderNone = "none"
)

// assumedDefaultBranch is the last resort; harmless, since it is only read
// from when it exists.
const assumedDefaultBranch = "master"

// Input is what facts are taken from.
type Input struct {
	// Getenv reads the environment. Required.
	Getenv func(name string) string
	// Open opens a file that the platform names in a variable, such as
	// GitHub's event payload. Nil means that there are no files.
	Open func(name string) (io.ReadCloser, error)
	// Git answers what the platform does not. Nil means that there is none.
	Git Git
	// Branch and DefaultBranch are what the user said. They win over
	// everything, and spare git the question.
	Branch, DefaultBranch string
}

// Git is what facts need from a repository.
type Git interface {
	// CurrentBranch names the branch that is checked out; ErrDetached if none is.
	CurrentBranch(ctx context.Context) (string, error)
	// RemoteHead names the default branch of the remote called origin.
	RemoteHead(ctx context.Context) (string, error)
	// HasBranch tells whether a branch exists here or is known to be at origin.
	HasBranch(ctx context.Context, name string) (bool, error)
	// Commit is the object name of what is checked out.
	Commit(ctx context.Context) (string, error)
}

// provider is one CI platform.
type provider struct {
	name string
	// marks tells whether this is the platform that we run on.
	marks func(env func(string) string) bool
	// facts reads what the platform says. It need not judge names, empty the
	// branch of a tag, or set the trust of what is no pull request: Detect
	// does so for all.
	facts func(*platform) Facts
}

// providers is searched in order. Platforms that pose as another one come
// before it: older Woodpeckers also set DRONE.
var providers = []provider{
	{"github", isSet("GITHUB_ACTIONS"), githubFacts},
	{"circleci", isSet("CIRCLECI"), circleciFacts},
	{"azure", isSet("TF_BUILD"), azureFacts},
	{"gitlab", isSet("GITLAB_CI"), gitlabFacts},
	{"buildkite", isSet("BUILDKITE"), buildkiteFacts},
	{"jenkins", isJenkins, jenkinsFacts},
	{"bitbucket", isSet("BITBUCKET_BUILD_NUMBER"), bitbucketFacts},
	{"woodpecker", isWoodpecker, woodpeckerFacts},
	{"drone", isSet("DRONE"), droneFacts},
	{"travis", isSet("TRAVIS"), travisFacts},
	{"teamcity", isSet("TEAMCITY_VERSION"), teamcityFacts},
	{"cloudbuild", isSet("BUILDER_OUTPUT"), cloudbuildFacts},
}

func isSet(name string) func(func(string) string) bool {
	return func(env func(string) string) bool {
		return !isFalse(env(name))
	}
}

func isFalse(value string) bool {
	return value == "" || value == "0" || strings.EqualFold(value, "false")
}

func providerOf(env func(string) string) (provider, bool) {
	for _, known := range providers {
		if known.marks(env) {
			return known, true
		}
	}
	return provider{}, false
}

// Provider names the platform as Facts.Provider does, ProviderNone if there
// is none, without asking git: for those who need to know first of all.
func Provider(getenv func(name string) string) string {
	if known, ok := providerOf(getenv); ok {
		return known.name
	}
	return ProviderNone
}

// platform is what the file of one platform reads from and complains to.
type platform struct {
	env      func(string) string
	open     func(string) (io.ReadCloser, error)
	warnings []string
}

func (p *platform) warnf(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// first gives the first of the variables that is set, and its name.
func (p *platform) first(names ...string) (value, name string) {
	for _, name := range names {
		if value := p.env(name); value != "" {
			return value, name
		}
	}
	return "", ""
}

// Detect tells what is known about the build that runs. It does not fail:
// what cannot be known stays empty (or, in the end, assumed) and is explained
// in a source, a reason or a warning for people.
func Detect(ctx context.Context, in Input) (Facts, []string) {
	p := &platform{env: in.Getenv, open: in.Open}
	facts := Facts{Provider: ProviderNone}
	if known, ok := providerOf(p.env); ok {
		facts = known.facts(p)
		facts.Provider = known.name
	}
	p.refuseBadNames(&facts)
	facts.settleTag()
	facts.settleMergeQueue()
	if in.Branch != "" {
		facts.Branch, facts.BranchSource = in.Branch, "--branch"
	}
	if in.DefaultBranch != "" {
		facts.DefaultBranch, facts.DefaultBranchSource = in.DefaultBranch, "--default-branch"
	}
	p.refuseBadNames(&facts) // pipelines hand strangers' branches to options too
	p.fillFromGit(ctx, &facts, in.Git)
	facts.settleTrust()
	return facts, p.warnings
}

// settleTag takes the branch from the build of a tag: platforms differ in
// what they call a tag's branch (its own name, or nothing), and a tag's build
// is not the newest of any branch, so it belongs to none.
func (f *Facts) settleTag() {
	if f.Tag == "" || f.PullRequest != nil {
		return
	}
	f.Branch, f.BranchSource = "", fmt.Sprintf("a tag (%s) is built", f.Tag)
}

// settleMergeQueue recognises GitHub's merge queue on platforms that build
// its branches like any other.
func (f *Facts) settleMergeQueue() {
	if f.PullRequest != nil {
		return // a stranger may call a branch as he likes
	}
	if base, ok := mergeQueueBase(f.Branch); ok {
		f.MergeQueue = true
		if f.BaseBranch == "" {
			f.BaseBranch = base
		}
	}
}

// settleTrust trusts what is no pull request, and no pull request unless its
// platform vouched for it.
func (f *Facts) settleTrust() {
	if f.Trust == "" {
		f.Trust = TrustOwn
		if f.PullRequest != nil {
			f.Trust = TrustUnknown
		}
	}
	if f.TrustReason != "" {
		return
	}
	switch {
	case f.PullRequest == nil && f.Trust == TrustOwn:
		f.TrustReason = "not a pull request"
	case f.Trust == TrustOwn:
		f.TrustReason = "the pull request's branch is in this repository"
	case f.Trust == TrustFork && f.PullRequest != nil && f.PullRequest.HeadRepository != "":
		f.TrustReason = fmt.Sprintf("the pull request comes from another repository (%s)", f.PullRequest.HeadRepository)
	case f.Trust == TrustFork:
		f.TrustReason = "the pull request comes from another repository"
	default:
		f.TrustReason = fmt.Sprintf("%s does not say which repository the pull request comes from", f.Provider)
	}
}
