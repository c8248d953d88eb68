package cache

import (
	"context"
	"slices"
	"sync"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// blobs knows in which repositories the blobs of a merged cache are.
type blobs struct {
	rw ReadWriter
	// listed are the repositories of the caches that list a blob, the most
	// preferred first. Those that turn out to have lost it are taken away.
	listed map[digest.Digest][]registry.Repository
	asked  map[digest.Digest]bool
}

func newBlobs(rw ReadWriter, sources []*source) *blobs {
	b := &blobs{rw: rw, listed: map[digest.Digest][]registry.Repository{}, asked: map[digest.Digest]bool{}}
	for _, s := range sources {
		for _, layer := range s.layers {
			if !slices.Contains(b.listed[layer.Digest], s.repository) {
				b.listed[layer.Digest] = append(b.listed[layer.Digest], s.repository)
			}
		}
	}
	return b
}

// lost asks for the blobs that were not asked for before and returns those
// that no repository has. One that a registry does not answer for is not
// counted as lost.
func (b *blobs) lost(ctx context.Context, layers []ocispec.Descriptor) []digest.Digest {
	var mu sync.Mutex
	var lost []digest.Digest
	group := errgroup.Group{}
	group.SetLimit(maxConcurrent)
	for _, layer := range layers {
		if b.asked[layer.Digest] {
			continue
		}
		b.asked[layer.Digest] = true
		mu.Lock()
		homes := b.listed[layer.Digest]
		mu.Unlock()
		group.Go(func() error {
			for len(homes) > 0 {
				has, err := b.rw.HasBlob(ctx, homes[0], layer.Digest)
				if has || err != nil {
					break
				}
				homes = homes[1:]
			}
			mu.Lock()
			defer mu.Unlock()
			b.listed[layer.Digest] = homes
			if len(homes) == 0 {
				lost = append(lost, layer.Digest)
			}
			return nil
		})
	}
	group.Wait()
	return lost
}

// home is a repository that has a blob, and false for none.
func (b *blobs) home(d digest.Digest) (registry.Repository, bool) {
	if homes := b.listed[d]; len(homes) > 0 {
		return homes[0], true
	}
	return registry.Repository{}, false
}

// allAt tells whether a repository has all the layers: a manifest may only
// refer to blobs of its own.
func (b *blobs) allAt(r registry.Repository, layers []ocispec.Descriptor) bool {
	return !slices.ContainsFunc(layers, func(layer ocispec.Descriptor) bool {
		home, _ := b.home(layer.Digest)
		return home != r
	})
}
