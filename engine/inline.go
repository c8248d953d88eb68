package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// inlineBuild is a build on a BuildKit that keeps caches only inside images:
// the one of a Docker Engine whose image store is not containerd's. Each stage
// is a solve of its own, since a solve exports one image and may import one
// cache; what a solve completes stays in the engine for the next.
//
// A stage whose earlier image has every step is known to be cached before any
// layer is fetched, and is left at that: an image's inline cache names the
// steps of the stages below it too, without their layers, so those of a stage
// that is cached are not needed. Only when a stage that has changed needs
// another is that one fetched.
type inlineBuild struct {
	engine  *Engine
	request Request
	sender  *sender
	display *display
	relay   *relay
	images  *imageStore

	mu     sync.Mutex
	solves []*stageSolve  // of the build, in order; those of exports are not among them
	built  map[int]string // image ids, by stage
	loose  []string       // image ids of exports; Close removes those without a name
	keep   string         // image id that was delivered

	// unrestored are the cache mounts that can still be restored, by key;
	// run's own.
	unrestored map[string]bool
	states     map[int]*stageState // of the stages that were tried; likewise

	left []Step // by another process, whose build this goes on saving

	ended     chan struct{} // closed once outcome is set
	outcome   Outcome
	stop      context.CancelFunc
	closeOnce sync.Once
	closeErr  error
}

// startInline begins a build.
func (e *Engine) startInline(ctx context.Context, r Request) (*inlineBuild, error) {
	if err := e.checkInline(ctx, r); err != nil {
		return nil, err
	}
	b, err := e.newInline(r)
	if err != nil {
		return nil, err
	}
	ctx, b.stop = context.WithCancel(ctx)
	go b.run(ctx)
	return b, nil
}

// resumeInline makes what another process left of a build exportable.
func (e *Engine) resumeInline(r Request, s Snapshot) (*inlineBuild, error) {
	b, err := e.newInline(r)
	if err != nil {
		return nil, err
	}
	b.left, b.outcome, b.stop = s.Steps, s.outcome(), func() {}
	close(b.ended)
	return b, nil
}

func (e *Engine) newInline(r Request) (*inlineBuild, error) {
	sender, err := newSender(r.Options, r.File.TargetStage, true, e.selection.Config)
	if err != nil {
		return nil, err
	}
	shown, err := newDisplay(r.Progress, r.File)
	if err != nil {
		return nil, err
	}
	return &inlineBuild{
		engine: e, request: r, sender: sender, display: shown, relay: newRelay(shown),
		images: &imageStore{docker: e.docker, config: e.selection.Config},
		built:  map[int]string{}, states: map[int]*stageState{}, unrestored: r.Mounts.restorable(),
		ended: make(chan struct{}),
	}, nil
}

// stageState is what run knows of a stage.
type stageState struct {
	err error
	// changed says that a step of it, or of what it needs, was not cached.
	changed bool
	// fetched says that its result is in the engine.
	fetched bool
}

// run builds the stages in the order of the file, in which every stage comes
// after what it needs.
func (b *inlineBuild) run(ctx context.Context) {
	defer close(b.ended)
	var first error
	for _, stage := range b.request.Stages {
		state := &stageState{}
		b.states[stage] = state
		for _, need := range b.request.File.Stages[stage].Needs {
			state.changed = state.changed || b.states[need].changed
			state.err = cmp.Or(state.err, b.states[need].err)
		}
		if state.err == nil {
			state.err = b.satisfy(ctx, stage, state)
		}
		if ctx.Err() != nil {
			b.outcome = canceledOutcome(ctx)
			return
		}
		first = cmp.Or(first, state.err)
		if state.err != nil && !b.request.KeepGoing {
			break
		}
	}
	b.outcome = Outcome{Result: OK}
	if first != nil {
		b.outcome = Outcome{Result: BuildFailed, Err: first, Line: failingLine(first)}
	}
}

// satisfy builds a stage. A verdict on it is enough where it is cached, except
// for the target.
func (b *inlineBuild) satisfy(ctx context.Context, stage int, state *stageState) error {
	if stage != b.request.Target && !b.hasSteps(stage) {
		return nil
	}
	imports := len(b.importsOf(stage)) > 0
	verdict := imports && stage != b.request.Target
	if imports && !state.changed {
		err := b.build(ctx, state, &stageSolve{stage: stage, yields: true, verdictOnly: verdict})
		if !errors.Is(err, errYielded) {
			return err
		}
	}
	for _, need := range b.request.File.Stages[stage].Needs {
		if err := b.fetch(ctx, need); err != nil {
			return err
		}
	}
	return b.build(ctx, state, &stageSolve{stage: stage, verdictOnly: verdict})
}

// fetch brings the result of a stage that is cached into the engine, from its
// own image: the one of the stage that needs it may not have it.
func (b *inlineBuild) fetch(ctx context.Context, stage int) error {
	state := b.states[stage]
	if state.fetched {
		return nil
	}
	if b.hasSteps(stage) {
		return b.build(ctx, state, &stageSolve{stage: stage})
	}
	for _, need := range b.request.File.Stages[stage].Needs {
		if err := b.fetch(ctx, need); err != nil {
			return err
		}
	}
	return nil
}

// buildOnce runs a solve of the build.
func (b *inlineBuild) buildOnce(ctx context.Context, state *stageState, s *stageSolve) error {
	s.tracker = newTracker()
	b.mu.Lock()
	b.solves = append(b.solves, s)
	b.mu.Unlock()
	source, target := b.request.File.CutAfter(s.stage)
	id, err := b.solveImage(ctx, s, source, target)
	b.mu.Lock()
	defer b.mu.Unlock()
	s.ended = true
	for _, step := range s.steps(b.request.File) {
		state.changed = state.changed || step.Stage == s.stage && step.Status == Ran
	}
	if id != "" {
		b.built[s.stage] = id
		state.fetched = true
	}
	return err
}

func (b *inlineBuild) hasSteps(stage int) bool {
	for _, in := range b.request.File.Stages[stage].Instructions {
		if in.Step() {
			return true
		}
	}
	return false
}

// importsOf is the one cache that a stage's solve imports, none if there is
// none: of several, hits are lost at random (moby/buildkit #6418).
func (b *inlineBuild) importsOf(stage int) []CacheSpec {
	if images := b.request.StageImages[stage]; len(images) > 0 {
		return []CacheSpec{{Type: "registry", Attributes: map[string]string{"ref": images[0]}}}
	}
	return b.request.Imports[:min(1, len(b.request.Imports))]
}

// Wait implements Build.
func (b *inlineBuild) Wait() Outcome {
	<-b.ended
	return b.outcome
}

func (b *inlineBuild) succeeded() bool {
	select {
	case <-b.ended:
		return b.outcome.Result == OK
	default:
		return false
	}
}

// Steps implements Build. A step is in several solves: that of its own stage
// and those of the stages above, in which it is a hit. What it was in the one
// that ran it is what became of it.
func (b *inlineBuild) Steps() []Step {
	byLine := map[int]*Step{}
	for _, stage := range b.request.Stages {
		for _, in := range b.request.File.Stages[stage].Instructions {
			if in.Step() {
				byLine[in.Lines.First] = &Step{Stage: stage, Line: in.Lines.First, Instruction: in.Text, Status: Pending}
			}
		}
	}
	for _, step := range b.left {
		byLine[step.Line] = &step
	}
	succeeded := b.succeeded()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.solves {
		for line, seen := range s.steps(b.request.File) {
			step := byLine[line]
			if step == nil {
				if seen.Instruction == "" || !slices.Contains(b.request.Stages, seen.Stage) {
					continue
				}
				step = &Step{Stage: seen.Stage, Line: line, Instruction: seen.Instruction, Status: Pending}
				byLine[line] = step
			}
			// A foreign step that a solve which was given up had begun, and
			// even one so short that it came to its end, is none of the build's.
			begun := s.gaveUp() && seen.Stage != s.stage && seen.Status != Cached
			if begun && step.Complete() || !seen.Complete() && (step.Complete() || s.gaveUp()) {
				continue
			}
			step.Duration += seen.Duration
			if step.Status != Ran {
				step.Status = seen.Status
			}
		}
	}
	steps := make([]Step, 0, len(byLine))
	for _, line := range slices.Sorted(maps.Keys(byLine)) {
		step := *byLine[line]
		if succeeded && step.Status == Pending {
			step.Status = Cached // nothing asked for it: what needs it was a hit
		}
		steps = append(steps, step)
	}
	return steps
}

// Snapshot implements Resumable.
func (b *inlineBuild) Snapshot() (Snapshot, bool) {
	return snapshotOf(b.Steps(), b.ended, &b.outcome), true
}

// ExportCache implements Build.
func (b *inlineBuild) ExportCache(context.Context, string, ...int) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrNoSeparateCache
}

// Close implements Build.
func (b *inlineBuild) Close() error {
	b.closeOnce.Do(func() {
		b.stop()
		<-b.ended
		b.display.close()
		errs := []error{b.images.clean("")}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, id := range append(slices.Collect(maps.Values(b.built)), b.loose...) {
			if id != b.keep {
				errs = append(errs, b.images.removeNameless(id))
			}
		}
		b.closeErr = errors.Join(errs...)
	})
	return b.closeErr
}

// completeSteps tells how much of a stage is complete: all of it, or up to the
// first step that is not, which is at line; any says that there is a complete
// step before that.
func completeSteps(steps []Step, stage int) (whole, any bool, line int) {
	for _, step := range slices.SortedFunc(slices.Values(steps), func(a, b Step) int { return cmp.Compare(a.Line, b.Line) }) {
		switch {
		case step.Stage != stage:
		case !step.Complete():
			return false, any, step.Line
		default:
			any = true
		}
	}
	return true, any, 0
}
