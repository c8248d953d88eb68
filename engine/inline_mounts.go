package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// mountsNeeded is why a solve is given up that is about to run steps whose
// cache mounts have not been restored.
type mountsNeeded struct{ keys []string }

func (e *mountsNeeded) Error() string { return "cache mounts have to be restored first" }

// needed lists the mounts to restore before a step that runs is let go on:
// those of the step and of all that need its result, which is as new as it is.
// Most often the step is one before that with the mount, which has then not
// begun.
func (s *stageSolve) needed(running digest.Digest) []string {
	var keys []string
	for _, use := range s.mounts {
		if !s.unrestored[use.key] || slices.Contains(keys, use.key) {
			continue
		}
		s.planned.walk(edge{use.vertex, 0}, func(e edge) bool {
			if e.vertex == running && !slices.Contains(keys, use.key) {
				keys = append(keys, use.key)
			}
			return true
		})
	}
	return keys
}

// build runs a solve of the build, and again once the cache mounts that it
// turned out to need have been restored.
func (b *inlineBuild) build(ctx context.Context, state *stageState, s *stageSolve) error {
	for {
		s.unrestored = maps.Clone(b.unrestored)
		err := b.lookBefore(ctx, state, s)
		if err == nil {
			err = b.buildOnce(ctx, state, s)
		}
		var needed *mountsNeeded
		if !errors.As(err, &needed) {
			return err
		}
		for _, key := range needed.keys {
			b.request.Mounts.Restore(ctx, key, func(ctx context.Context, handler MountHandler) error {
				return b.ReachMount(ctx, key, handler)
			})
			delete(b.unrestored, key)
		}
		s = &stageSolve{stage: s.stage, yields: s.yields, hitsOnly: s.hitsOnly, verdictOnly: s.verdictOnly}
	}
}

// MountsTouched implements Mounter.
func (b *inlineBuild) MountsTouched() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for _, s := range b.solves {
		for _, use := range s.mounts {
			if !slices.Contains(keys, use.key) && s.tracker.touched(s.planned, use.vertex, s.ended) {
				keys = append(keys, use.key)
			}
		}
	}
	return keys
}

// ReachMount implements Mounter.
func (b *inlineBuild) ReachMount(ctx context.Context, key string, handler MountHandler) error {
	g, use, err := b.mountOf(key)
	if err != nil {
		return err
	}
	return b.engine.reach(ctx, b.sender, g, use, b.request.Mounts.Helper, handler)
}

// mountOf finds a mount in what was planned, as a definition for a session of
// its own: see renewSessions.
func (b *inlineBuild) mountOf(key string) (*graph, mountUse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range slices.Backward(b.solves) {
		for _, use := range s.mounts {
			if use.key != key {
				continue
			}
			raw, err := s.planned.definition.MarshalVT()
			if err != nil {
				return nil, use, fmt.Errorf("write build definition: %w", err)
			}
			var definition pb.Definition
			if err := definition.UnmarshalVT(raw); err != nil {
				return nil, use, fmt.Errorf("read build definition: %w", err)
			}
			renamed := map[digest.Digest]digest.Digest{}
			if err := renewSessions(&definition, renamed); err != nil {
				return nil, use, err
			}
			g, err := newGraph(&definition)
			use.vertex = renamed[use.vertex]
			return g, use, err
		}
	}
	return nil, mountUse{}, errNoMount
}
