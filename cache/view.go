package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// View is the cache that one build imports: everything that was found, as one
// manifest. BuildKit, given several caches, loses hits at random (moby/buildkit
// #6418); given one it does not.
type View struct {
	// Ref is the one reference to import, by digest; "" where no registry
	// holds the view.
	Ref string
	// Served, with a Digest, is the view where nothing may be written: to be
	// offered to the engine by the session of the build. Nil if there is Ref,
	// or nothing to import.
	Served content.Store
	Digest digest.Digest
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

	sources []*source
	config  []byte           // its records
	origins map[string][]int // see From
}

// Empty tells whether there is nothing to import.
func (v View) Empty() bool { return v.Ref == "" && v.Served == nil && len(v.StageImages) == 0 }

// Records are those of the merged cache: what BuildKit will find hits by. Nil
// where the cache is in images.
func (v View) Records() []cacheimporttypes.CacheRecord {
	var config cacheimporttypes.CacheConfig
	if v.config == nil || json.Unmarshal(v.config, &config) != nil {
		return nil
	}
	return config.Records
}

// Of lists the lineages of a stage, the most specific first; without a stage,
// those of whole builds that no stage's tag refers to.
func (v View) Of(stage string) []Lineage { return ofStage(v.Lineages, stage) }

// ReadWriter is what composing a view asks of a registry.
type ReadWriter interface {
	Writer
	RangeReader
	Blob(ctx context.Context, r registry.Repository, d digest.Digest, maxSize int64) ([]byte, error)
	HasBlob(ctx context.Context, r registry.Repository, d digest.Digest) (bool, error)
	PutBlob(ctx context.Context, r registry.Repository, blob []byte, mediaType string) (ocispec.Descriptor, error)
}

// Compose makes one view of all that was found. Whatever is unreadable or has
// lost blobs is left out and told; Compose itself does not fail.
func Compose(ctx context.Context, rw ReadWriter, p Plan, f Found) View {
	c := composer{rw: rw, plan: p}
	if p.CacheInImages {
		f = c.takeImages(f)
	}
	sources := c.fetch(ctx, listSources(p, f))
	if len(sources) == 0 {
		return c.view
	}
	if err := c.merge(ctx, sources); err != nil {
		if !errors.Is(err, merge.ErrEmpty) {
			c.warn("the caches cannot be used: %v", err)
		}
		return c.view
	}
	c.name(f, sources)
	return c.view
}

// name lists what the view is made of: for each stage its tags, and of the
// caches of whole builds those that no stage's tag refers to. A second tag of
// one cache says nothing new.
func (c *composer) name(f Found, sources []*source) {
	type told struct {
		stage  string
		source *source
	}
	seen := map[told]bool{}
	named := map[*source]bool{}
	for _, l := range f.Lineages { // those of stages come first
		for _, s := range sources {
			if !s.of(l) || seen[told{l.Slot.Stage, s}] || l.Slot.Stage == "" && named[s] {
				continue
			}
			seen[told{l.Slot.Stage, s}], named[s] = true, true
			c.view.Lineages = append(c.view.Lineages, l)
			break
		}
	}
}

type composer struct {
	rw   ReadWriter
	plan Plan

	mu   sync.Mutex
	view View
}

func (c *composer) warn(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.view.Warnings = append(c.view.Warnings, fmt.Sprintf(format, args...))
}

// merge makes one manifest of the sources without the results whose blobs the
// registry has lost: BuildKit fails the whole build over one that a cache
// lists (moby/buildkit #2332). Where the result of one source is lost, that of
// another may take its place, whose blobs are asked for in turn.
func (c *composer) merge(ctx context.Context, sources []*source) error {
	lineages := make([]*merge.Lineage, len(sources))
	for i, s := range sources {
		lineages[i] = s.lineage
	}
	options := merge.Options{Keep: keepOrder(sources), Missing: map[digest.Digest]bool{}}
	blobs := newBlobs(c.rw, sources)
	for range maxMerges {
		merged, err := merge.Merge(lineages, options)
		if err != nil {
			return err
		}
		lost := blobs.lost(ctx, merged.Layers)
		if len(lost) == 0 {
			c.take(ctx, merged, sources, blobs)
			return nil
		}
		for _, d := range lost {
			options.Missing[d] = true
		}
		c.tellLost(sources, lost)
	}
	return errors.New("the registry has lost too many of their layers")
}

// maxMerges bounds how often the view is merged anew for lost blobs.
const maxMerges = 5

// tellLost names the caches of which blobs are lost.
func (c *composer) tellLost(sources []*source, lost []digest.Digest) {
	for _, s := range sources {
		n := 0
		for _, layer := range s.layers {
			if slices.Contains(lost, layer.Digest) {
				n++
			}
		}
		if n > 0 {
			c.warn("the registry has lost %d layers of the cache at %s; what was built on them is built again", n, s.name())
		}
	}
}

// take makes the view of what was merged.
func (c *composer) take(ctx context.Context, merged *merge.Merged, sources []*source, blobs *blobs) {
	c.view.Conflicts, c.view.sources, c.view.origins = merged.Stats.Conflicts, sources, origins(merged)
	c.view.config = merged.Config
	if n := merged.Stats.DroppedForSize; n > 0 {
		c.warn("the caches hold more than an engine imports: %d of their %d records are left out, the least relevant and oldest", n, n+merged.Stats.Records)
	}
	if merged.Same >= 0 {
		same := sources[merged.Same]
		c.view.Ref = same.repository.Digested(same.digest)
		return
	}
	if c.plan.Writes() && blobs.allAt(c.plan.Repository, merged.Layers) {
		err := c.publish(ctx, merged)
		if err == nil {
			c.view.Ref = c.plan.Repository.Digested(merged.Digest)
			return
		}
		if !errors.Is(err, registry.ErrUnauthorized) {
			c.warn("the merged cache is not kept: %v", err)
		}
	}
	c.view.Digest, c.view.Served = merged.Digest, newServed(blobs, merged)
}

// publish puts the merged manifest into the registry, under a tag, since
// registries collect what no tag refers to. A later run's view takes the
// place: see Owner.ViewTag.
func (c *composer) publish(ctx context.Context, merged *merge.Merged) error {
	if _, err := c.rw.Head(ctx, c.plan.Repository, merged.Digest.String()); err == nil {
		return nil // by an earlier run from the same caches
	}
	if _, err := c.rw.PutBlob(ctx, c.plan.Repository, merged.Config, merged.ConfigDescriptor.MediaType); err != nil {
		return err
	}
	_, err := c.rw.PutManifest(ctx, c.plan.Repository, c.plan.Owner().ViewTag(merged.Digest), merged.Manifest, ocispec.MediaTypeImageManifest)
	return err
}
