package cache

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// promotion moves a tag of an owner to what this build exported. A registry
// knows no compare-and-swap, and another build of the same branch may end at
// the same time: what stands at the tag is asked for right before it is moved
// and right after. What another build has put there is not replaced but united
// with.
type promotion struct {
	rw   ReadWriter
	repo registry.Repository
	tag  string
	// replaceable is what need not be united with, "" for nothing: of a
	// complete export, what this build knew when it began, for the next
	// export holds what of it is still in use.
	replaceable digest.Digest
}

// newPromotion moves the tag of complete exports.
func newPromotion(rw ReadWriter, p Plan, f Found) *promotion {
	tag := p.Owner().CacheExportTag()
	return &promotion{rw: rw, repo: p.Repository, tag: tag, replaceable: f.Tags[tag].Root.Digest}
}

// newPartialPromotion moves the tag of partial ones, which only ever grows.
func newPartialPromotion(rw ReadWriter, p Plan) *promotion {
	return &promotion{rw: rw, repo: p.Repository, tag: p.Owner().PartialTag()}
}

// promotions is how often the tag is moved at most: others may move it too.
const promotions = 5

// promote makes the tag refer to an export, or to one of which it is a part,
// and returns the descriptor of that, once it stays so. Once more at the end of
// a run it finds out whether the tag has been taken meanwhile.
func (p *promotion) promote(ctx context.Context, exported ocispec.Descriptor) (ocispec.Descriptor, error) {
	for range promotions {
		began := time.Now()
		placed, moved, err := p.place(ctx, exported)
		if err != nil || !moved {
			return placed, err
		}
		exported = placed
		// Another build that asked before and writes after takes as long.
		select {
		case <-ctx.Done():
			return exported, nil // as good as can be told
		case <-time.After(min(time.Since(began), time.Second)):
		}
	}
	return exported, nil // others go on moving it, and unite with this
}

// place makes the tag refer to an export, or to one of which it is a part, and
// returns the descriptor of that, and whether the tag had to be moved.
func (p *promotion) place(ctx context.Context, exported ocispec.Descriptor) (placed ocispec.Descriptor, moved bool, err error) {
	var own []byte
	var reading errgroup.Group
	reading.Go(func() (err error) {
		own, _, err = p.rw.Manifest(ctx, p.repo, exported.Digest.String())
		return err
	})
	held, err := p.rw.Head(ctx, p.repo, p.tag)
	unread := reading.Wait()
	switch {
	case err == nil && held.Digest == exported.Digest:
		return exported, false, nil
	case err != nil && !errors.Is(err, registry.ErrNotFound):
		return exported, false, err
	case unread != nil:
		return exported, false, unread
	}
	raw := own
	for range promotions {
		if held.Digest == "" || held.Digest == p.replaceable {
			raw = own
			break
		}
		united, err := p.unite(ctx, exported.Digest, held.Digest)
		switch {
		case errors.Is(err, errUnusable):
			// It would be of no use to the next build either.
			raw = own
		case err != nil:
			return exported, false, err
		case united.digest == held.Digest:
			return held, false, nil
		default:
			raw = united.raw
		}
		// Uniting took its time, in which others may have come and gone: they
		// would not look again.
		now, err := p.rw.Head(ctx, p.repo, p.tag)
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return exported, false, err
		}
		if now.Digest == held.Digest {
			break
		}
		held = now
	}
	placed, err = p.rw.PutManifest(ctx, p.repo, p.tag, raw, ocispec.MediaTypeImageManifest)
	if errors.Is(err, registry.ErrRejected) {
		// The registry has lost a layer of what was united with.
		placed, err = p.rw.PutManifest(ctx, p.repo, p.tag, own, ocispec.MediaTypeImageManifest)
	}
	if err != nil {
		return exported, false, err
	}
	return placed, true, nil
}

// united is the manifest of a cache that has what two have.
type united struct {
	digest digest.Digest
	raw    []byte
}

// errUnusable is a cache that no build could use.
var errUnusable = errors.New("no usable cache")

// unite merges the caches of two builds that ended at the same time. Neither
// is preferred, so that both builds come to the same; of what does not fit, the
// oldest goes.
func (p *promotion) unite(ctx context.Context, ours, theirs digest.Digest) (united, error) {
	sources := []*source{{repository: p.repo, digest: ours}, {repository: p.repo, digest: theirs}}
	slices.SortFunc(sources, func(a, b *source) int { return cmp.Compare(a.digest, b.digest) })
	var lineages []*merge.Lineage
	for _, s := range sources {
		s.lineages = []Lineage{{Ref: p.repo.Tagged(p.tag)}}
		if err := s.read(ctx, p.rw); err != nil {
			var answer *registry.Error
			if errors.As(err, &answer) && !errors.Is(err, registry.ErrInvalid) && !errors.Is(err, registry.ErrNotFound) || s.digest == ours {
				return united{}, err
			}
			return united{}, errUnusable
		}
		lineages = append(lineages, s.lineage)
	}
	merged, err := merge.Merge(lineages, merge.Options{Newest: true})
	if errors.Is(err, merge.ErrTangled) {
		return united{}, errUnusable
	}
	if err != nil {
		return united{}, err
	}
	if merged.Same >= 0 {
		same := sources[merged.Same]
		return united{same.digest, same.raw}, nil
	}
	_, err = p.rw.PutBlob(ctx, p.repo, merged.Config, merged.ConfigDescriptor.MediaType)
	return united{merged.Digest, merged.Manifest}, err
}

// endTogether sees to it, before the rest is written and after, that builds
// which end at the same time lose nothing of each other's.
func (s *Saver) endTogether(ctx context.Context, tag *promotion) {
	if s.cache != nil {
		if _, err := tag.promote(ctx, *s.cache); err != nil {
			s.tell(Saved{Ref: s.plan.Repository.Tagged(tag.tag), Err: err})
		}
	}
	if err := announceScope(ctx, s.w, s.plan, s.found); err != nil {
		s.warn("other scopes will not find this one's cache: %v", err)
	}
}
