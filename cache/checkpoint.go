package cache

import (
	"context"
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// checkpointPoll is how often a build is looked at.
	checkpointPoll = 250 * time.Millisecond
	// checkpointLimit bounds one checkpoint.
	checkpointLimit = 10 * time.Minute
	// restStage and restInterval are the least pauses after a checkpoint, as
	// multiples of the time it took: before one for a stage that is done, of
	// which there are few, and before one of the others, which may take a
	// twentieth of the build.
	restStage    = 4
	restInterval = 19
)

// Checkpoints saves what is complete while the build goes on, one checkpoint
// at a time: as soon as a stage is whole, and otherwise every so often. What
// was saved so survives the death of this process, of the engine and of the
// machine. It returns once the build has ended, after the checkpoint that is
// then in flight, or at once with ctx.
func (s *Saver) Checkpoints(ctx context.Context, every time.Duration, ended <-chan struct{}, completed func() Completed) {
	if !s.writes(Completed{}) {
		return
	}
	poll := time.NewTicker(checkpointPoll)
	defer poll.Stop()
	last, took := time.Now(), time.Duration(0)
	whole := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case <-poll.C:
		}
		c := completed()
		now, wholeNow := time.Now(), c.whole()
		since := now.Sub(last)
		interval := since >= max(every, restInterval*took)
		due := interval || wholeNow > whole && since >= restStage*took
		if !due || wholeNow == len(c.Stages) || !s.moved(c) {
			continue
		}
		err := s.checkpoint(ctx, c, interval)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.warn("checkpoint: %v", err)
		}
		last, took, whole = time.Now(), time.Since(now), wholeNow
	}
}

// checkpoint saves what is complete, that of stages which are not whole
// included if partial says so or if it comes with the rest anyway.
func (s *Saver) checkpoint(ctx context.Context, c Completed, partial bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkpointLimit, fmt.Errorf("not done within %v", checkpointLimit))
	defer cancel()
	if !c.SeparateCache {
		return s.saveImages(ctx, c, partial)
	}
	_, err := s.savePartial(ctx, c)
	return err
}

// saveImages writes the images of the stages that are whole to their tags, and
// if partial says so, of what is complete of the others to their partial ones.
// Save does not repeat what was written so.
func (s *Saver) saveImages(ctx context.Context, c Completed, partial bool) error {
	s.noteTimes(c)
	for _, stage := range c.Stages {
		one := Completed{Stages: []CompletedStage{stage}}
		if !stage.Whole && !partial || !s.moved(one) {
			continue
		}
		s.saved = nil
		plan, slots := s.plan.stage(stage.Index), s.due(c, stage)
		if stage.Whole {
			entry, err := s.entry(ctx, plan, false)
			s.stage(ctx, plan, slots, entry, err)
		} else {
			s.partialImage(ctx, plan, slots[0])
		}
		for _, saved := range s.saved {
			if saved.Err != nil {
				return saved.Err
			}
		}
		s.hold(one, nil)
		if stage.Whole {
			s.written[stage.Index] = s.saved
		}
	}
	return nil
}

// savePartial exports what is complete to the partial tag. Where little time
// is left, the stages go one after the other, the one first of which most
// work would be lost.
func (s *Saver) savePartial(ctx context.Context, c Completed) (ocispec.Descriptor, error) {
	if !s.moved(c) && s.partial != nil {
		return *s.partial, nil
	}
	if c.Hurry {
		order := s.costliest(c)
		for n := 1; n < len(order); n++ {
			desc, err := s.exportPartial(ctx, order[:n]...)
			if err != nil {
				return desc, err
			}
			s.partial = &desc
			s.hold(c, s.plan.closure(order[:n]))
		}
	}
	desc, err := s.exportPartial(ctx)
	if err == nil {
		s.partial = &desc
		s.hold(c, nil)
	}
	return desc, err
}

// costliest are the stages with work that is not saved, most of it first.
func (s *Saver) costliest(c Completed) []int {
	var order []int
	unsaved := map[int]time.Duration{}
	for _, stage := range c.Stages {
		for _, step := range stage.Ran {
			if !s.held[step.Line] {
				unsaved[stage.Index] += step.Worked
			}
		}
		if unsaved[stage.Index] > 0 {
			order = append(order, stage.Index)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(unsaved[b] - unsaved[a]) })
	return order
}

// moved tells whether a step has run whose result no tag holds yet.
func (s *Saver) moved(c Completed) bool {
	return slices.ContainsFunc(c.Stages, func(stage CompletedStage) bool {
		return slices.ContainsFunc(stage.Ran, func(step CompletedStep) bool { return !s.held[step.Line] })
	})
}
