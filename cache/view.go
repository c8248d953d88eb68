package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// View is the cache that one build imports: everything that was found, as one
// manifest. BuildKit, given several caches, loses hits at random (moby/buildkit
// #6418); given one it does not.
type View struct {
	// Ref is the one reference to import, by digest; "" for none.
	Ref string
	// Lineages are what it is made of, in the order of the plan.
	Lineages []Lineage
	// Conflicts count the steps for which two lineages hold different
	// results; the preferred one's was taken.
	Conflicts int
	// StageImages are images that carry their cache, by stage, for engines
	// that import nothing else.
	StageImages map[int][]string
	// Warnings say what could not be used; each is a miss.
	Warnings []string
}

// Of lists the lineages of a stage, the most specific first.
func (v View) Of(stage string) []Lineage {
	var of []Lineage
	for _, l := range v.Lineages {
		if l.Slot.Stage == stage {
			of = append(of, l)
		}
	}
	return of
}

// ReadWriter is what composing a view asks of a registry.
type ReadWriter interface {
	Writer
	Blob(ctx context.Context, r registry.Repository, d digest.Digest, maxSize int64) ([]byte, error)
	HasBlob(ctx context.Context, r registry.Repository, d digest.Digest) (bool, error)
	PutBlob(ctx context.Context, r registry.Repository, blob []byte, mediaType string) (ocispec.Descriptor, error)
}

// maxCacheConfig bounds a cache config that is read, in bytes: what
// merge.Manifest.Lineage takes at most.
const maxCacheConfig = 4 << 20

// Compose makes one view of all that was found. Whatever is unreadable or has
// lost blobs is left out and told; Compose itself does not fail.
func Compose(ctx context.Context, rw ReadWriter, p Plan, f Found) View {
	c := composer{rw: rw, plan: p}
	sources := c.sources(f)
	c.fetch(ctx, sources)
	sources = slices.DeleteFunc(sources, func(s *source) bool { return s.lineage == nil })
	if len(sources) > 0 {
		if err := c.merge(ctx, sources); err != nil && !errors.Is(err, merge.ErrEmpty) {
			c.warn("the caches cannot be used: %v", err)
		}
	}
	if c.view.Ref != "" {
		for _, l := range f.Lineages {
			if slices.ContainsFunc(sources, func(s *source) bool { return s.of(l) }) {
				c.view.Lineages = append(c.view.Lineages, l)
			}
		}
	}
	return c.view
}

type composer struct {
	rw   ReadWriter
	plan Plan

	mu   sync.Mutex
	view View
}

// source is one cache manifest, to which several tags may refer.
type source struct {
	digest digest.Digest
	raw    []byte // nil until fetched
	level  Level
	name   string // of the first tag that refers to it
	roots  []digest.Digest

	lineage *merge.Lineage // nil if it cannot be used
}

// of tells whether the source is what a lineage's tag refers to.
func (s *source) of(l Lineage) bool { return slices.Contains(s.roots, l.Root.Digest) }

// contentOrder is the order in which levels own a step that several have
// built differently: the base before what was built on it, so that a branch
// comes to agree with what it will be merged into.
var contentOrder = []Level{LevelDefault, LevelBase, LevelBranch, LevelUnprefixed}

// sources lists the distinct cache manifests in the order of their content's
// preference.
func (c *composer) sources(f Found) []*source {
	var sources []*source
	add := func(l Lineage, d digest.Digest, raw []byte) {
		for _, s := range sources {
			if s.digest == d {
				s.roots = append(s.roots, l.Root.Digest)
				if slices.Index(contentOrder, l.Level) < slices.Index(contentOrder, s.level) {
					s.level = l.Level
				}
				return
			}
		}
		sources = append(sources, &source{digest: d, raw: raw, level: l.Level, name: l.Ref.String(), roots: []digest.Digest{l.Root.Digest}})
	}
	for _, l := range f.Lineages {
		switch content := l.Content; content.Kind {
		case registry.KindEntry:
			if content.Entry.Cache != nil {
				add(l, content.Entry.Cache.Digest, nil)
				continue
			}
			for _, image := range content.Entry.Images { // inline
				add(l, image.Digest, nil)
			}
		case registry.KindCache, registry.KindImage:
			add(l, l.Root.Digest, l.raw)
		}
	}
	slices.SortStableFunc(sources, func(a, b *source) int {
		return cmp.Or(
			cmp.Compare(slices.Index(contentOrder, a.level), slices.Index(contentOrder, b.level)),
			cmp.Compare(a.name, b.name), cmp.Compare(a.digest, b.digest))
	})
	return sources
}

// fetch reads all sources at once.
func (c *composer) fetch(ctx context.Context, sources []*source) {
	group := errgroup.Group{}
	group.SetLimit(maxConcurrent)
	for _, s := range sources {
		group.Go(func() error {
			err := c.read(ctx, s)
			if err != nil && !errors.Is(err, merge.ErrNoCache) {
				c.warn("the cache at %s cannot be used: %v", s.name, err)
			}
			return nil
		})
	}
	group.Wait()
}

func (c *composer) read(ctx context.Context, s *source) error {
	if s.raw == nil {
		raw, _, err := c.rw.Manifest(ctx, c.plan.Repository, s.digest.String())
		if err != nil {
			return err
		}
		s.raw = raw
	}
	manifest, err := merge.ParseManifest(s.raw)
	if err != nil {
		return err
	}
	config, err := c.rw.Blob(ctx, c.plan.Repository, manifest.Config.Digest, maxCacheConfig)
	if err != nil {
		return err
	}
	s.lineage, err = manifest.Lineage(s.name, config)
	return err
}

// merge makes one manifest of the sources and sees to it that the registry
// holds it. Blobs that the registry has lost are found first: BuildKit fails
// the whole build over one that a cache lists (moby/buildkit #2332).
func (c *composer) merge(ctx context.Context, sources []*source) error {
	var lineages []*merge.Lineage
	for _, s := range sources {
		lineages = append(lineages, s.lineage)
	}
	options := merge.Options{Keep: keepOrder(sources)}
	merged, err := merge.Merge(lineages, options)
	if err != nil {
		return err
	}
	if options.Missing = c.missing(ctx, merged.Layers); len(options.Missing) > 0 {
		c.warn("the registry has lost %d layers of the cache; what was built on them is built again", len(options.Missing))
		if merged, err = merge.Merge(lineages, options); err != nil {
			return err
		}
	}
	c.view.Conflicts = merged.Stats.Conflicts
	found := merged.Digest
	if merged.Same >= 0 {
		found = lineages[merged.Same].Digest
	} else if err := c.publish(ctx, merged); err != nil {
		return err
	}
	c.view.Ref = c.plan.Repository.Digested(found)
	return nil
}

// keepOrder says whose results to keep when not all fit: the branch's own
// first, for they are what its last build reached.
func keepOrder(sources []*source) []int {
	order := make([]int, len(sources))
	for i := range sources {
		order[i] = i
	}
	specific := []Level{LevelBranch, LevelBase, LevelDefault, LevelUnprefixed}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(slices.Index(specific, sources[a].level), slices.Index(specific, sources[b].level))
	})
	return order
}

// missing asks the registry for each blob. One that it does not answer for is
// not counted as lost.
func (c *composer) missing(ctx context.Context, layers []ocispec.Descriptor) map[digest.Digest]bool {
	missing := map[digest.Digest]bool{}
	group := errgroup.Group{}
	group.SetLimit(maxConcurrent)
	for _, layer := range layers {
		group.Go(func() error {
			if has, err := c.rw.HasBlob(ctx, c.plan.Repository, layer.Digest); err == nil && !has {
				c.mu.Lock()
				defer c.mu.Unlock()
				missing[layer.Digest] = true
			}
			return nil
		})
	}
	group.Wait()
	return missing
}

// publish puts the merged manifest into the registry, under a tag named by
// owner, hour and content: registries collect what no tag refers to, and
// later runs delete it by its age (see expireViews).
func (c *composer) publish(ctx context.Context, merged *merge.Merged) error {
	if _, err := c.rw.PutBlob(ctx, c.plan.Repository, merged.Config, merged.ConfigDescriptor.MediaType); err != nil {
		return err
	}
	tag := c.plan.Owner().viewTag(time.Now(), merged.Digest)
	_, err := c.rw.PutManifest(ctx, c.plan.Repository, tag, merged.Manifest, ocispec.MediaTypeImageManifest)
	return err
}

func (c *composer) warn(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view.Warnings = append(c.view.Warnings, fmt.Sprintf(format, args...))
}

// viewTag names a merged view.
func (o Owner) viewTag(now time.Time, content digest.Digest) string {
	return o.tag("view") + now.UTC().Format("-2006010215-") + content.Encoded()[:12]
}
