package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Reader is what looking up asks of a registry.
type Reader interface {
	Head(ctx context.Context, r registry.Repository, tagOrDigest string) (ocispec.Descriptor, error)
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
	// Tags is what each tag that was asked for holds, absent for nothing.
	Tags map[string]Tagged
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
func (f Found) Of(stage string) []Lineage {
	var of []Lineage
	for _, l := range f.Lineages {
		if l.Slot.Stage == stage {
			of = append(of, l)
		}
	}
	return of
}

// Look asks the registry for everything that the plan reads, all at once: one
// round of HEADs, one of GETs for what exists, and one more of both for slots
// whose plain tag is taken by another cache. What cannot be read is a miss
// and a warning; Look itself does not fail.
func Look(ctx context.Context, reader Reader, p Plan) Found {
	l := lookup{reader: reader, repository: p.Repository, found: Found{Tags: map[string]Tagged{}}}
	var first []string
	var second []string
	for _, stage := range p.Stages {
		for _, slot := range stage.Reads {
			first = append(first, p.Tags(slot)[0])
		}
	}
	for _, owner := range p.Owners {
		first = append(first, owner.CacheExportTag(), owner.PartialTag())
	}
	l.ask(ctx, first)
	for _, stage := range p.Stages {
		for _, slot := range stage.Reads {
			tags := p.Tags(slot)
			if held, ok := l.found.Tags[tags[0]]; ok && len(tags) > 1 && !held.keeps(slot) {
				second = append(second, tags[1])
			}
		}
	}
	l.ask(ctx, second)
	l.collect(p)
	return l.found
}

type lookup struct {
	reader     Reader
	repository registry.Repository

	mu    sync.Mutex
	found Found
}

// ask finds out what the tags hold, each of them once.
func (l *lookup) ask(ctx context.Context, tags []string) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group := errgroup.Group{}
	group.SetLimit(maxConcurrent)
	asked := map[string]bool{}
	for _, tag := range tags {
		if asked[tag] {
			continue
		}
		asked[tag] = true
		group.Go(func() error {
			l.askTag(ctx, cancel, tag)
			return nil
		})
	}
	group.Wait()
}

func (l *lookup) askTag(ctx context.Context, giveUp context.CancelCauseFunc, tag string) {
	root, err := l.reader.Head(ctx, l.repository, tag)
	var raw []byte
	if err == nil {
		raw, root, err = l.reader.Manifest(ctx, l.repository, root.Digest.String())
	}
	var content registry.Content
	if err == nil {
		content, err = registry.Classify(raw, root.MediaType)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.found.Tags[tag] = Tagged{root, content, raw}
	case errors.Is(err, registry.ErrNotFound):
	case errors.As(context.Cause(ctx), new(givenUp)):
		// Said already, for the question that failed first.
	case errors.Is(err, registry.ErrUnauthorized), errors.Is(err, registry.ErrUnavailable):
		// The answer to the others would be the same, and each would be waited
		// for.
		l.found.Warnings = append(l.found.Warnings, fmt.Sprintf("no cache can be read: %v", err))
		giveUp(givenUp{err})
	default:
		l.found.Warnings = append(l.found.Warnings, fmt.Sprintf("the cache at %s cannot be read: %v", l.repository.Tagged(tag), err))
	}
}

// givenUp is why the remaining questions are not asked.
type givenUp struct{ error }

// keeps tells whether the tag is the slot's own.
func (t Tagged) keeps(s Slot) bool {
	return t.Content.Kind == registry.KindEntry && s.Matches(t.Content.Entry.Annotations)
}

// collect lists what was found in the order of the plan.
func (l *lookup) collect(p Plan) {
	for _, stage := range p.Stages {
		for _, slot := range stage.Reads {
			for _, tag := range p.Tags(slot) {
				held, ok := l.found.Tags[tag]
				// A plain tag that is not ours may be the ancestor's, or made
				// by hand: what it holds serves, but it is never written.
				if !ok || !held.keeps(slot) && !held.Content.Foreign() {
					continue
				}
				if reason := p.distrusted(held); reason != "" {
					l.found.Warnings = append(l.found.Warnings, fmt.Sprintf("the cache at %s is not used: %s", l.repository.Tagged(tag), reason))
					continue
				}
				l.add(Lineage{Level: slot.Level, Slot: slot}, tag, held)
			}
		}
	}
	for _, owner := range p.Owners {
		for _, tag := range []string{owner.CacheExportTag(), owner.PartialTag()} {
			if held, ok := l.found.Tags[tag]; ok && held.Content.Kind == registry.KindCache {
				l.add(Lineage{Level: owner.Level, Slot: Slot{Level: owner.Level, Branch: owner.Branch, Scope: owner.Scope}}, tag, held)
			}
		}
	}
}

func (l *lookup) add(lineage Lineage, tag string, held Tagged) {
	lineage.Ref, lineage.Root, lineage.Content, lineage.raw = l.repository.Tagged(tag), held.Root, held.Content, held.raw
	l.found.Lineages = append(l.found.Lineages, lineage)
}
