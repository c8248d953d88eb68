package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/opencontainers/go-digest"
)

// keeper sees to it that what a build completes is kept: checkpoints and the
// state file while it runs, the rest at its end.
type keeper struct {
	options  *options
	prepared *prepared
	engine   *engine.Engine
	imported bool // the build imports a cache
	state    *state
	newSaver func(engine.Build) *cache.Saver
	mounts   *mountKeeper
	warn     func(format string, args ...any)

	saver *cache.Saver // of the build that runs
	rest  func()       // waits for the checkpoint in flight
}

// watch keeps what a build completes until stop is called with its outcome. A
// checkpoint in flight then goes on beside the delivery of a build that
// succeeded, for it does what saving would have to do anyway; else it is
// dropped, and what follows covers it.
func (k *keeper) watch(ctx context.Context, b engine.Build) (stop func(engine.Outcome)) {
	k.saver = k.newSaver(b)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var work sync.WaitGroup
	k.rest = func() {
		work.Wait()
		cancel()
	}
	if k.options.checkpoint > 0 {
		work.Go(func() {
			k.saver.Checkpoints(ctx, k.options.checkpoint, ended, func() cache.Completed { return k.completed(b, engine.Outcome{}) })
		})
	}
	if resumable, ok := b.(engine.Resumable); ok && k.options.state != "" {
		work.Go(func() { k.keepState(ctx, ended, resumable) })
	}
	return func(outcome engine.Outcome) {
		close(ended)
		if outcome.Result != engine.OK {
			cancel()
			work.Wait()
		}
	}
}

// statePoll is how often the state file is brought up to date.
const statePoll = 200 * time.Millisecond

func (k *keeper) keepState(ctx context.Context, ended <-chan struct{}, b engine.Resumable) {
	poll := time.NewTicker(statePoll)
	defer poll.Stop()
	completed, held, touched := -1, 0, 0
	mounter, _ := b.(engine.Mounter)
	for {
		snapshot, ok := b.Snapshot()
		used := 0
		if mounter != nil {
			used = len(mounter.MountsTouched())
		}
		if n := len(k.saver.Held()); ok && (len(snapshot.Names) != completed || n != held || used != touched) {
			completed, held, touched = len(snapshot.Names), n, used
			k.writeState(&snapshot, false)
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case <-poll.C:
		}
	}
}

// writeState notes how far the build is. The file is a help for later: losing
// it is told, once.
func (k *keeper) writeState(snapshot *engine.Snapshot, saved bool) {
	if k.options.state == "" {
		return
	}
	k.state.Saved = saved
	if k.saver != nil {
		k.state.Held = k.saver.Held()
	}
	if snapshot != nil {
		k.state.Build = snapshot
	}
	if err := k.state.write(k.options.state); err != nil {
		k.warn("warning: %v", err)
		k.options.state = ""
	}
}

// newState is the state before the build.
func newState(s surroundings, environment map[string]*string, p *prepared) *state {
	st := &state{Schema: stateSchema, Version: version(), Arguments: s.args, Environment: environment, Dockerfile: p.file.Original(), Facts: p.facts}
	st.Directory, _ = os.Getwd()
	return st
}

// save saves what the build completed. What is not saved then is left to the
// state file.
func (k *keeper) save(ctx context.Context, b engine.Build, outcome engine.Outcome, delivered engine.Delivered) []cache.Saved {
	k.rest()
	resumable, _ := b.(engine.Resumable)
	snapshot := func() *engine.Snapshot {
		if resumable != nil {
			if s, ok := resumable.Snapshot(); ok {
				return &s
			}
		}
		return nil
	}
	k.writeState(snapshot(), false)
	var beside sync.WaitGroup
	beside.Go(func() { k.mounts.save(ctx, b, outcome) })
	completed := k.completed(b, outcome)
	image, noImage := digest.Parse(delivered.Digest)
	config, noConfig := digest.Parse(delivered.ImageID)
	if noImage == nil && noConfig == nil && config != image {
		completed.Delivered = &cache.DeliveredImage{Repository: k.prepared.plan.Image.Repository, Digest: image, Config: config}
	}
	saved := k.saver.Save(ctx, completed)
	beside.Wait()
	lost := k.mounts.lost() || slices.ContainsFunc(saved, func(one cache.Saved) bool { return one.Err != nil })
	k.writeState(nil, !lost)
	return saved
}

// completed sums up what the build has results for.
func (k *keeper) completed(b engine.Build, outcome engine.Outcome) cache.Completed {
	c := cache.Completed{
		Success: outcome.Result == engine.OK, Hurry: outcome.Result == engine.BuildCanceled, SeparateCache: k.engine.Capabilities.RegistryCache,
	}
	byStage := map[int]*cache.CompletedStage{}
	for _, stage := range k.prepared.stages {
		byStage[stage] = &cache.CompletedStage{Index: stage, Whole: true}
	}
	for _, step := range b.Steps() {
		stage := byStage[step.Stage]
		stage.Whole = stage.Whole && step.Complete()
		stage.Steps = append(stage.Steps, cache.StepTime{Instruction: step.Instruction, Worked: step.Duration})
		// Without an import, it is the engine itself that had the result:
		// the registry has not.
		if step.Status == engine.Ran || step.Status == engine.Cached && !k.imported {
			stage.Ran = append(stage.Ran, cache.CompletedStep{Line: step.Line, Worked: step.Duration})
		}
	}
	for _, stage := range k.prepared.stages {
		c.Stages = append(c.Stages, *byStage[stage])
	}
	return c
}

// errSaveTime and graceError are why saving ends early.
var errSaveTime = fmt.Errorf("not done within %v", saveLimit)

type graceError struct{ grace time.Duration }

func (e *graceError) Error() string {
	return fmt.Sprintf("not done within %v of the signal (--grace)", e.grace)
}

// Bounds of what is done after the build.
const (
	saveLimit = 30 * time.Minute
	// graceLong is for CIs that leave minutes, or do not say.
	graceLong = 4 * time.Minute
	// graceShort is for those that kill after ten seconds: GitHub and Azure
	// (SIGTERM after 7.5 s, SIGKILL 2.5 s later; actions/runner
	// ProcessInvoker.cs) and Buildkite (its cancel-grace-period).
	graceShort = 8500 * time.Millisecond
)

// grace is how long the process may go on after a signal.
func grace(o *options, provider string) time.Duration {
	switch {
	case o.grace > 0:
		return o.grace
	case slices.Contains([]string{"github", "azure", "buildkite"}, provider):
		return graceShort
	}
	return graceLong
}

// outliving is a context that a signal does not end at once, but after the
// grace.
func outliving(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	outlived, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if errors.As(context.Cause(ctx), new(*signalError)) {
			time.AfterFunc(grace, func() { cancel(&graceError{grace}) })
		}
	})
	return outlived, func() {
		stop()
		cancel(nil)
	}
}
