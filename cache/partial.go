package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// exportPartial exports what is complete of some stages and of what they
// need, of all without any, and unites it with what stands at the owner's
// partial tag: an earlier build may have got further elsewhere, and what this
// one did not reach is not part of what it exports. The descriptor is that of
// the result, which the tag refers to.
func (s *Saver) exportPartial(ctx context.Context, stages ...int) (ocispec.Descriptor, error) {
	// The engine writes to a tag of its own, so that the partial one never
	// holds less than it did.
	exported, err := s.export(ctx, s.plan.Owner().StagingTag(), stages...)
	if err != nil {
		return exported, err
	}
	tag := s.plan.Owner().PartialTag()
	root, err := s.w.Head(ctx, s.plan.Repository, tag)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return exported, s.move(ctx, tag, exported.Digest)
	case err != nil:
		return exported, err
	case root.Digest == exported.Digest:
		return exported, nil
	}
	united, err := s.unite(ctx, tag, exported.Digest, root.Digest)
	if errors.Is(err, registry.ErrUnavailable) {
		return exported, err
	}
	if err != nil {
		// What stands there cannot be used, by the next build no more than
		// here: it is replaced.
		s.warn("the partial cache at %s is replaced: %v", s.plan.Repository.Tagged(tag), err)
		return exported, s.move(ctx, tag, exported.Digest)
	}
	return united, nil
}

// unite makes the tag refer to one cache of two, of which the first is new and
// owns what both hold.
func (s *Saver) unite(ctx context.Context, tag string, newer, older digest.Digest) (ocispec.Descriptor, error) {
	var lineages []*merge.Lineage
	var roots []ocispec.Descriptor
	for _, d := range []digest.Digest{newer, older} {
		raw, root, err := s.w.Manifest(ctx, s.plan.Repository, d.String())
		if err != nil {
			return root, err
		}
		manifest, err := merge.ParseManifest(raw)
		if err != nil {
			return root, err
		}
		config, err := s.w.Blob(ctx, s.plan.Repository, manifest.Config.Digest, maxConfig)
		if err != nil {
			return root, err
		}
		lineage, err := manifest.Lineage(d.String(), config)
		if err != nil {
			return root, err
		}
		lineages, roots = append(lineages, lineage), append(roots, root)
	}
	merged, err := merge.Merge(lineages, merge.Options{Keep: []int{0, 1}})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	switch merged.Same {
	case 0:
		return roots[0], s.move(ctx, tag, newer)
	case 1:
		return roots[1], nil
	}
	if _, err := s.w.PutBlob(ctx, s.plan.Repository, merged.Config, merged.ConfigDescriptor.MediaType); err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.w.PutManifest(ctx, s.plan.Repository, tag, merged.Manifest, ocispec.MediaTypeImageManifest)
}

// move makes a tag refer to a manifest that the repository holds.
func (s *Saver) move(ctx context.Context, tag string, to digest.Digest) error {
	raw, root, err := s.w.Manifest(ctx, s.plan.Repository, to.String())
	if err != nil {
		return err
	}
	_, err = s.w.PutManifest(ctx, s.plan.Repository, tag, raw, root.MediaType)
	return err
}

// How often an export is tried, and the pause before the second attempt,
// which doubles. The registry client has retries of its own.
const (
	exportAttempts = 5
	exportPause    = 500 * time.Millisecond
)

// export lets the engine write a cache to a tag, again where that can help.
func (s *Saver) export(ctx context.Context, tag string, stages ...int) (desc ocispec.Descriptor, err error) {
	err = s.persistently(ctx, func() error {
		desc, err = s.b.ExportCache(ctx, s.plan.Repository.Tagged(tag).String(), stages...)
		return err
	})
	return desc, err
}

// persistently does something until it succeeds, fails for good, or has
// failed too often. An error for want of time says so.
func (s *Saver) persistently(ctx context.Context, do func() error) error {
	pause := exportPause
	for attempt := 1; ; attempt++ {
		err := do()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case attempt == exportAttempts, !errors.As(err, &temporary), !temporary.Temporary():
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause *= 2
	}
}
