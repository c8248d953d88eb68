package ci

import (
	"context"
	"errors"
	"fmt"
)

// fillFromGit asks git for what neither the user nor the platform said.
func (p *platform) fillFromGit(ctx context.Context, f *Facts, git Git) {
	if git == nil {
		git = noGit{}
	}
	p.fillBranch(ctx, f, git)
	p.fillDefaultBranch(ctx, f, git)
	if f.Commit == "" {
		// Without a commit nothing is lost; an error here has been told
		// above, or is that of a repository without commits.
		f.Commit, _ = git.Commit(ctx)
	}
	if f.Provider == ProviderNone {
		if f.Commit != "" || f.BranchSource == "git" {
			f.Provider = ProviderGit
		}
		if !isFalse(p.env("CI")) {
			p.warnf("CI is set by a platform that is not known: the build is taken for one of this repository's own code")
		}
	}
}

func (p *platform) fillBranch(ctx context.Context, f *Facts, git Git) {
	switch {
	case f.Branch != "" || f.Tag != "":
		return
	case f.BranchSource != "":
	case f.PullRequest != nil:
		// Not git's: several platforms check out the base and merge into it.
		f.BranchSource = fmt.Sprintf("%s does not name the pull request's branch", f.Provider)
	default:
		branch, err := git.CurrentBranch(ctx)
		if err == nil {
			err = checkBranch(branch)
		}
		if err == nil {
			f.Branch, f.BranchSource = branch, "git"
			return
		}
		f.BranchSource = explain(err)
	}
	p.warnf("no branch: %s", f.BranchSource)
}

// fillDefaultBranch tries the remote's HEAD, then whichever of main and
// master exists. If both do, main: a repository that has both was renamed
// from master, and forgot or kept the old one.
func (p *platform) fillDefaultBranch(ctx context.Context, f *Facts, git Git) {
	if f.DefaultBranch != "" {
		return
	}
	head, err := git.RemoteHead(ctx)
	if err == nil {
		err = checkBranch(head)
	}
	if err == nil {
		f.DefaultBranch, f.DefaultBranchSource = head, "git: HEAD of origin"
		return
	}
	for _, name := range []string{"main", "master"} {
		if f.isOfBranch(name) {
			f.DefaultBranch, f.DefaultBranchSource = name, "this build's branch"
			return
		}
		if exists, _ := git.HasBranch(ctx, name); exists {
			f.DefaultBranch, f.DefaultBranchSource = name, "git: a branch of this name exists"
			return
		}
	}
	f.DefaultBranch, f.DefaultBranchSource = assumedDefaultBranch, "assumed"
	p.warnf("default branch assumed to be %s: %s", assumedDefaultBranch, explain(err))
}

// isOfBranch tells whether the build itself proves that the repository has a
// branch, which a checkout of one commit does not show to git. The head of a
// pull request proves nothing: it may be another repository's.
func (f *Facts) isOfBranch(name string) bool {
	return f.BaseBranch == name || f.Branch == name && f.PullRequest == nil
}

// explain says in people's words why git did not answer.
func explain(err error) string {
	for _, known := range []error{ErrNoGit, ErrNotARepository, ErrDetached} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}

// noGit stands for a machine without git.
type noGit struct{}

func (noGit) CurrentBranch(context.Context) (string, error)   { return "", ErrNoGit }
func (noGit) RemoteHead(context.Context) (string, error)      { return "", ErrNoGit }
func (noGit) HasBranch(context.Context, string) (bool, error) { return false, ErrNoGit }
func (noGit) Commit(context.Context) (string, error)          { return "", ErrNoGit }
