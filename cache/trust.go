package cache

import (
	"fmt"
	"slices"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
)

// The rule of trust: a build reads the caches of its own trust scope and of
// more trusted ones, and writes only its own (docs/trust.md). Who may be
// trusted is found out elsewhere; this file says what follows from it.

// Trust is whose code a build runs.
type Trust string

// The scopes of trust. A build whose code may be a stranger's is not trusted
// more than one whose code is.
const (
	TrustOwn     Trust = "own" // also the zero value's
	TrustFork    Trust = "fork"
	TrustUnknown Trust = "unknown"
)

// own tells whether the code was put there by somebody who may write to the
// repository.
func (t Trust) own() bool { return t == TrustOwn || t == "" }

// reads tells whether a build may use what another one wrote. An entry that
// does not say who wrote it counts as own: nobody else could have written it.
func (t Trust) reads(writer Trust) bool { return !t.own() || writer.own() }

// Origin is where the code that is built comes from.
type Origin struct {
	Trust  Trust
	Reason string // why it is trusted or not, for people
	// PullRequest: it is a proposed change, whose branch may be called like
	// any other.
	PullRequest bool
	// MergeQueue: its branch lives only as long as this build.
	MergeQueue bool
}

// readOnly is why a build may write nothing at all, "" if it may.
func (r Request) readOnly() string {
	branch := r.Branch.Name
	switch {
	case r.Origin.Trust == TrustFork:
		return "fork: cache is read-only: " + r.Origin.Reason
	case !r.Origin.Trust.own():
		return "unknown origin: cache is read-only: " + r.Origin.Reason
	case r.Origin.PullRequest && branch != "" && branch == r.DefaultBranch.Name:
		return fmt.Sprintf("pull request whose branch is called like the default branch (%s): cache is read-only", branch)
	case r.Origin.PullRequest && branch != "" && branch == r.BaseBranch.Name:
		return fmt.Sprintf("pull request whose branch is called like its base (%s): cache is read-only", branch)
	}
	return r.ReadOnly
}

// writes says which levels are written, and notes why others are not.
func (p *Plan) writes(r Request) map[Level]bool {
	switch {
	case p.ReadOnly != "":
		p.skip("saving caches", p.ReadOnly)
		return nil
	case r.Save == SaveNever:
		p.skip("saving caches", "--cache-save=never")
		return nil
	}
	write := map[Level]bool{}
	switch {
	case r.Branch.Name == "":
		p.skip("branch tags", "the branch is unknown: "+r.Branch.From)
	case r.Origin.MergeQueue:
		p.skip("branch tags", "the branch of a merge queue is gone after the build: nobody would read them")
	default:
		write[LevelBranch] = true
	}
	switch {
	case r.Unprefixed == UnprefixedNever:
		p.skip("unprefixed tags", "--cache-unprefixed=never")
	case r.Unprefixed == UnprefixedDefaultBranch && (r.Branch.Name == "" || r.Branch.Name != r.DefaultBranch.Name):
		p.skip("unprefixed tags", "--cache-unprefixed=default-branch, and this is not the default branch")
	default:
		write[LevelUnprefixed] = true
	}
	return write
}

func (p *Plan) skip(what, reason string) { p.Skips = append(p.Skips, Skip{what, reason}) }

// withholdPush keeps the build of a stranger's code from giving its image a
// name that caches are read from: an image may hold a cache, and a stranger
// chooses the name of his branch, of which a pipeline may make the tag.
func (p *Plan) withholdPush() {
	if !p.Push || p.Origin.Trust.own() {
		return
	}
	for _, name := range append([]registry.Image{p.Image}, p.Names...) {
		if p.readsFrom(name) {
			p.Push = false
			p.skip("push of "+p.Image.String(), fmt.Sprintf("%s: others read their cache from %s", p.Origin.Trust, name))
			return
		}
	}
}

// readsFrom tells whether an image stands where the cache of some slot may, or
// that of a cache mount or of a whole build, or one that --cache-from names.
func (p *Plan) readsFrom(image registry.Image) bool {
	if slices.Contains(p.Given, image) {
		return true
	}
	return image.Repository == p.Repository && (slices.ContainsFunc(p.Stages, func(s StagePlan) bool {
		return slices.ContainsFunc(s.Reads, func(slot Slot) bool {
			plain, hashed := slot.Tags()
			return slices.Contains([]string{plain, hashed, slot.PartialTag()}, image.Tag)
		})
	}) || slices.ContainsFunc(p.Mounts, func(m MountPlan) bool {
		return slices.ContainsFunc(m.Reads, func(slot MountSlot) bool { return image.Tag == slot.Tag() })
	}) || slices.ContainsFunc(p.Owners, func(o OwnerLevel) bool {
		return slices.Contains([]string{o.CacheExportTag(), o.PartialTag(), o.ScopesTag()}, image.Tag)
	}))
}

// Owner is whose caches this build writes: its branch's, or nobody's where it
// may not write under the name of its branch.
func (p Plan) Owner() Owner {
	owner := Owner{Scope: p.Scope}
	for _, stage := range p.Stages {
		for _, slot := range stage.Writes {
			if slot.Level == LevelBranch {
				owner.Branch = slot.Branch
			}
		}
	}
	return owner
}

// MakeReadOnly is the plan without anything to write to the cache repository.
func (p Plan) MakeReadOnly(reason string) Plan {
	p.ReadOnly = reason
	p.Stages = slices.Clone(p.Stages)
	for i := range p.Stages {
		p.Stages[i].Writes = nil
	}
	p.Mounts = slices.Clone(p.Mounts)
	for i := range p.Mounts {
		p.Mounts[i].Writes = nil
	}
	p.Skips = append(slices.Clone(p.Skips), Skip{"saving caches", reason})
	return p
}

// distrusted says why what a tag holds is not used, "" if it may be.
func (p Plan) distrusted(held Tagged) string {
	if held.Content.Kind != registry.KindEntry {
		return "" // does not say who wrote it
	}
	writer := Trust(held.Content.Entry.Annotations.Trust)
	if p.Origin.Trust.reads(writer) {
		return ""
	}
	return fmt.Sprintf("it was written by a build of trust %s, this one trusts %s only", writer, TrustOwn)
}
