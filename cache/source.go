package cache

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// source is one cache manifest, to which several tags may refer.
type source struct {
	repository registry.Repository
	digest     digest.Digest
	raw        []byte // nil until fetched
	lineages   []Lineage
	level      Level // the first in contentOrder of those it was found at
	own        bool  // found at the owner's own scope
	entry      bool  // an entry calls it its cache

	layers  []ocispec.Descriptor
	lineage *merge.Lineage // nil if it cannot be used
}

// of tells whether the source is what a lineage's tag refers to.
func (s *source) of(l Lineage) bool {
	return slices.ContainsFunc(s.lineages, func(own Lineage) bool { return own.Ref == l.Ref })
}

// name is where the source was found first.
func (s *source) name() string { return s.lineages[0].Ref.String() }

// maxConfig bounds a cache config that is read, in bytes: what
// merge.Manifest.Lineage takes at most.
const maxConfig = 4 << 20

// maxSources bounds how many caches are merged, and maxPlatforms of how many
// images of one index the inline caches are looked at.
const (
	maxSources   = 100
	maxPlatforms = 8
)

// contentOrder is the order in which levels own a step that several have
// built differently: the base before what was built on it, so that a branch
// comes to agree with what it will be merged into.
var contentOrder = []Level{LevelDefault, LevelBase, LevelBranch, LevelUnprefixed, LevelGiven}

// listSources lists the distinct cache manifests in the order of their
// content's preference. Within a level the names decide, so that all jobs of
// a matrix prefer the same.
func listSources(p Plan, f Found) []*source {
	var sources []*source
	for _, l := range f.Lineages {
		for _, d := range l.manifests() {
			i := slices.IndexFunc(sources, func(s *source) bool { return s.digest == d })
			if i < 0 {
				i = len(sources)
				sources = append(sources, &source{repository: l.Ref.Repository, digest: d, level: l.Level})
			}
			sources[i].add(l, p)
		}
	}
	slices.SortStableFunc(sources, func(a, b *source) int {
		return cmp.Or(
			cmp.Compare(slices.Index(contentOrder, a.level), slices.Index(contentOrder, b.level)),
			cmp.Compare(a.name(), b.name()), cmp.Compare(a.digest, b.digest))
	})
	return sources
}

func (s *source) add(l Lineage, p Plan) {
	s.lineages = append(s.lineages, l)
	s.own = s.own || l.Slot.Scope == p.Scope
	s.entry = s.entry || l.Content.Kind == registry.KindEntry && l.Content.Entry.Cache != nil
	if slices.Index(contentOrder, l.Level) < slices.Index(contentOrder, s.level) {
		s.level = l.Level
	}
	if l.Root.Digest == s.digest {
		s.raw, s.layers = l.raw, l.Content.Layers
	}
}

// manifests are those of the caches that a lineage's tag holds.
func (l Lineage) manifests() []digest.Digest {
	images := l.Content.Children
	switch l.Content.Kind {
	case registry.KindCache, registry.KindImage:
		return []digest.Digest{l.Root.Digest}
	case registry.KindEntry:
		if l.Content.Entry.Cache != nil {
			return []digest.Digest{l.Content.Entry.Cache.Digest}
		}
		images = l.Content.Entry.Images
	}
	var inline []digest.Digest
	for _, image := range images[:min(len(images), maxPlatforms)] {
		inline = append(inline, image.Digest)
	}
	return inline
}

// keepOrder says whose results to keep when not all fit: the branch's own
// first, for they are what its last build reached.
func keepOrder(sources []*source) []int {
	order := make([]int, len(sources))
	for i := range sources {
		order[i] = i
	}
	specific := []Level{LevelBranch, LevelBase, LevelDefault, LevelUnprefixed, LevelGiven}
	place := func(i int) int {
		place := 2 * slices.Index(specific, sources[i].level)
		if !sources[i].own {
			place++
		}
		return place
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(place(a), place(b)) })
	return order
}

// fetch reads all sources at once and returns those that can be used.
func (c *composer) fetch(ctx context.Context, sources []*source) []*source {
	if len(sources) > maxSources {
		c.warn("%d caches were found, of which %d are used", len(sources), maxSources)
		var kept []*source
		for _, i := range keepOrder(sources)[:maxSources] {
			kept = append(kept, sources[i])
		}
		sources = slices.DeleteFunc(sources, func(s *source) bool { return !slices.Contains(kept, s) })
	}
	group := errgroup.Group{}
	group.SetLimit(maxConcurrent)
	for _, s := range sources {
		group.Go(func() error {
			err := s.read(ctx, c.rw)
			if err != nil && (!errors.Is(err, merge.ErrNoCache) || s.entry) {
				c.warn("the cache at %s cannot be used: %v", s.name(), err)
			}
			return nil
		})
	}
	group.Wait()
	return slices.DeleteFunc(sources, func(s *source) bool { return s.lineage == nil })
}

func (s *source) read(ctx context.Context, r ReadWriter) error {
	if s.raw == nil {
		raw, root, err := r.Manifest(ctx, s.repository, s.digest.String())
		if err != nil {
			return err
		}
		content, err := registry.Classify(raw, root.MediaType)
		if err != nil {
			return err
		}
		s.raw, s.layers = raw, content.Layers
	}
	manifest, err := merge.ParseManifest(s.raw)
	if err != nil {
		return err
	}
	config, err := r.Blob(ctx, s.repository, manifest.Config.Digest, maxConfig)
	if err != nil {
		return err
	}
	s.lineage, err = manifest.Lineage(s.name(), config)
	return err
}
