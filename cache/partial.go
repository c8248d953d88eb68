package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	return newPartialPromotion(s.w, s.plan).promote(ctx, exported)
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
// failed too often: once is enough for a registry that did not answer the
// look-up either. An error for want of time says so.
func (s *Saver) persistently(ctx context.Context, do func() error) error {
	pause, attempts := exportPause, exportAttempts
	if s.found.Unavailable {
		attempts = 1
	}
	for attempt := 1; ; attempt++ {
		err := do()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case attempt == attempts, !errors.As(err, &temporary), !temporary.Temporary():
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause *= 2
	}
}
