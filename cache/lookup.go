package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Reader is what looking up asks of a registry.
type Reader interface {
	Manifest(ctx context.Context, r registry.Repository, tagOrDigest string) ([]byte, ocispec.Descriptor, error)
}

// maxConcurrent bounds the questions in flight, so that fifty stages on four
// levels are a handful of round trips and still no flood.
const maxConcurrent = 64

// Lineage is a cache that was found: what one tag really holds.
type Lineage struct {
	Level Level
	// Slot is the slot it was found for; an owner's export has one without a
	// stage.
	Slot Slot
	Ref  registry.Image // where
	Root ocispec.Descriptor
	// Content is what the tag holds; raw is its manifest.
	Content registry.Content
	raw     []byte
}

// Found is the answer to a look-up.
type Found struct {
	// Lineages are in the order of the plan: stage by stage, the most
	// specific level first.
	Lineages []Lineage
	// Tags is what each tag of the plan's repository that was asked for holds,
	// absent for nothing.
	Tags map[string]Tagged
	// Mounts are what was found of cache mounts, by key.
	Mounts map[string]FoundMount
	// Scopes are those that the branch is known to have caches in.
	Scopes registry.Scopes
	// Refused says that the plan's repository may not be read, Unavailable that
	// its registry did not answer, however often it was asked.
	Refused, Unavailable bool
	// Warnings say what was not understood or not answered; each is a miss.
	Warnings []string
}

// Tagged is what a tag holds.
type Tagged struct {
	Root    ocispec.Descriptor
	Content registry.Content
	raw     []byte
}

// Of lists the lineages found for a stage.
func (f Found) Of(stage string) []Lineage { return ofStage(f.Lineages, stage) }

func ofStage(lineages []Lineage, stage string) []Lineage {
	var of []Lineage
	for _, l := range lineages {
		if l.Slot.Stage == stage {
			of = append(of, l)
		}
	}
	return of
}

// Look asks the registry for everything that the plan reads: in a first round
// for every tag that the plan names, and in a second for what the answers
// name, the caches of sibling scopes and the tags of slots whose plain one is
// taken by another cache. Each question is one request, and maxConcurrent are
// asked at once: how long it takes hardly depends on the number of stages.
// What cannot be read is a miss and a warning; Look itself does not fail.
func Look(ctx context.Context, reader Reader, p Plan) Found {
	l := lookup{reader: reader, plan: p, held: map[registry.Image]Tagged{}, lists: map[string]registry.Scopes{}}
	l.ask(ctx, l.first())
	l.ask(ctx, l.second())
	l.collect()
	return l.found
}

type lookup struct {
	reader Reader
	plan   Plan
	// owners are those whose caches are read: the plan's and, once they are
	// known, their siblings.
	owners []OwnerLevel

	mu    sync.Mutex
	held  map[registry.Image]Tagged
	lists map[string]registry.Scopes // of sibling scopes, by tag
	found Found
}

// first are the references that the plan names.
func (l *lookup) first() []registry.Image {
	refs := slices.Clone(l.plan.Given)
	tag := func(tag string) { refs = append(refs, l.plan.Repository.Tagged(tag)) }
	for _, stage := range l.plan.Stages {
		for _, slot := range stage.Reads {
			tag(l.plan.Tags(slot)[0])
			if l.plan.CacheInImages {
				tag(slot.PartialTag())
			}
		}
	}
	for _, mount := range l.plan.Mounts {
		for _, slot := range mount.Reads {
			tag(slot.Tag())
		}
	}
	for _, owner := range l.plan.Owners {
		refs = append(refs, l.own(owner)...)
		tag(owner.ScopesTag())
		if owner.Scope != "" { // needs no list to be known
			refs = append(refs, l.own(OwnerLevel{owner.Level, Owner{Branch: owner.Branch}})...)
		}
	}
	return refs
}

// own adds an owner of caches and names the tags of its exports.
func (l *lookup) own(owner OwnerLevel) []registry.Image {
	l.owners = append(l.owners, owner)
	return []registry.Image{l.plan.Repository.Tagged(owner.CacheExportTag()), l.plan.Repository.Tagged(owner.PartialTag())}
}

// second are the references that the answers to the first name.
func (l *lookup) second() []registry.Image {
	var refs []registry.Image
	for _, stage := range l.plan.Stages {
		for _, slot := range stage.Reads {
			tags := l.plan.Tags(slot)
			if held, ok := l.held[l.plan.Repository.Tagged(tags[0])]; ok && len(tags) > 1 && !held.keeps(slot) {
				refs = append(refs, l.plan.Repository.Tagged(tags[1]))
			}
		}
	}
	for _, owner := range l.plan.Owners {
		list := l.lists[owner.ScopesTag()]
		for _, scope := range list.Names {
			if list.Branch == utf8Text(owner.Branch) && scope != utf8Text(owner.Scope) {
				refs = append(refs, l.own(OwnerLevel{owner.Level, Owner{owner.Branch, scope}})...)
			}
		}
	}
	return refs
}

// ask finds out what the references hold, each of them once.
func (l *lookup) ask(ctx context.Context, refs []registry.Image) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group := errgroup.Group{}
	group.SetLimit(maxConcurrent)
	asked := map[registry.Image]bool{}
	for _, ref := range refs {
		if asked[ref] {
			continue
		}
		asked[ref] = true
		group.Go(func() error {
			l.askOne(ctx, cancel, ref)
			return nil
		})
	}
	group.Wait()
}

// askOne reads what a reference holds. It is not asked for with a HEAD first:
// what exists is read anyway, and a registry that counts pulls counts none for
// what does not.
func (l *lookup) askOne(ctx context.Context, giveUp context.CancelCauseFunc, ref registry.Image) {
	raw, root, err := l.reader.Manifest(ctx, ref.Repository, ref.Tag)
	var content registry.Content
	if err == nil {
		content, err = registry.Classify(raw, root.MediaType)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.held[ref] = Tagged{root, content, raw}
		if list, err := registry.DecodeScopes(raw); err == nil {
			l.lists[ref.Tag] = list
		}
	case errors.Is(err, registry.ErrNotFound):
	case errors.As(context.Cause(ctx), new(givenUp)):
		// Said already, for the question that failed first.
	case ref.Repository == l.plan.Repository && (errors.Is(err, registry.ErrUnauthorized) || errors.Is(err, registry.ErrUnavailable)):
		// The answer to the others would be the same, and each would be waited
		// for.
		l.found.Refused, l.found.Unavailable = errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrUnavailable)
		l.found.Warnings = append(l.found.Warnings, fmt.Sprintf("no cache can be read: %v", err))
		giveUp(givenUp{err})
	case ctx.Err() != nil:
		if said := fmt.Sprintf("no cache can be read: %v", context.Cause(ctx)); !slices.Contains(l.found.Warnings, said) {
			l.found.Warnings = append(l.found.Warnings, said)
		}
	default:
		l.found.Warnings = append(l.found.Warnings, fmt.Sprintf("the cache at %s cannot be read: %v", ref, err))
	}
}

// givenUp is why the remaining questions are not asked.
type givenUp struct{ error }

// keeps tells whether the tag is the slot's own.
func (t Tagged) keeps(s Slot) bool {
	return t.Content.Kind == registry.KindEntry && s.Matches(t.Content.Entry.Annotations)
}

// collect lists what was found in the order of the plan.
func (l *lookup) collect() {
	l.found.Tags, l.found.Scopes = map[string]Tagged{}, l.lists[l.plan.Owner().ScopesTag()]
	for ref, held := range l.held {
		if ref.Repository == l.plan.Repository {
			l.found.Tags[ref.Tag] = held
		}
	}
	for _, stage := range l.plan.Stages {
		for _, slot := range stage.Reads {
			for _, tag := range l.plan.Tags(slot) {
				ref := l.plan.Repository.Tagged(tag)
				held, ok := l.held[ref]
				// A plain tag that is not ours may be the ancestor's, or made
				// by hand: what it holds serves, but it is never written.
				if !ok || !held.keeps(slot) && !held.Content.Foreign() {
					continue
				}
				l.add(Lineage{Level: slot.Level, Slot: slot}, ref, held)
			}
			ref := l.plan.Repository.Tagged(slot.PartialTag())
			if held, ok := l.held[ref]; ok && held.keeps(slot) {
				l.add(Lineage{Level: slot.Level, Slot: slot}, ref, held)
			}
		}
	}
	for _, owner := range l.owners {
		for _, tag := range []string{owner.CacheExportTag(), owner.PartialTag()} {
			ref := l.plan.Repository.Tagged(tag)
			if held, ok := l.held[ref]; ok && held.Content.Kind == registry.KindCache {
				l.add(Lineage{Level: owner.Level, Slot: Slot{Level: owner.Level, Branch: owner.Branch, Scope: owner.Scope}}, ref, held)
			}
		}
	}
	l.collectMounts()
	for _, ref := range l.plan.Given {
		if held, ok := l.held[ref]; ok {
			l.add(Lineage{Level: LevelGiven, Slot: Slot{Level: LevelGiven}}, ref, held)
		}
	}
}

func (l *lookup) add(lineage Lineage, ref registry.Image, held Tagged) {
	if reason := l.plan.distrusted(held); reason != "" {
		l.found.Warnings = append(l.found.Warnings, fmt.Sprintf("the cache at %s is not used: %s", ref, reason))
		return
	}
	lineage.Ref, lineage.Root, lineage.Content, lineage.raw = ref, held.Root, held.Content, held.raw
	l.found.Lineages = append(l.found.Lineages, lineage)
}
