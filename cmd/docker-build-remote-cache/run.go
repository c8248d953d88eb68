package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
)

// surroundings are what a process finds when it starts.
type surroundings struct {
	args      []string
	lookupEnv func(string) (string, bool)
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
}

func (s surroundings) getenv(name string) string {
	value, _ := s.lookupEnv(name)
	return value
}

// talk says something to people, one line at a time, apart from the build's
// own output.
func (s surroundings) talk(format string, args ...any) {
	fmt.Fprintf(s.stderr, "remote-cache: %s\n", clean(fmt.Sprintf(format, args...)))
}

// run is the whole program; it returns the exit status.
func run(ctx context.Context, s surroundings) int {
	o, err := parseCommandLine(s.args, s.lookupEnv)
	if err != nil {
		return s.fail(err)
	}
	switch {
	case o.help:
		fmt.Fprint(s.stdout, helpText())
		return 0
	case o.version:
		fmt.Fprintln(s.stdout, program, version())
		return 0
	}
	p, err := prepare(ctx, s, o)
	if err != nil {
		return s.fail(err)
	}
	if o.dryRun {
		if err := p.plan.Fprint(s.stdout); err != nil {
			return s.fail(err)
		}
		return 0
	}
	return build(ctx, s, o, p)
}

// build runs the plan: connect and look up, build, deliver, save, report.
func build(ctx context.Context, s surroundings, o *options, p *prepared) int {
	r := newRecorder(o, p)
	e, err := engine.Connect(ctx, s.engineSelection(o))
	if err != nil {
		return s.fail(err)
	}
	defer e.Close()
	r.engine(e.Name)
	if err := e.Check(o.build); err != nil {
		return s.fail(err)
	}
	client := registry.NewClient(s.registryOptions())

	started := time.Now()
	found := cache.Look(ctx, client, p.plan)
	view := cache.Compose(ctx, client, p.plan, found)
	r.lookedUp(found, view, started)
	s.tellLookup(p, found, view)

	started = time.Now()
	b, outcome, err := buildWith(ctx, s, e, request(s, o, p, view))
	if err != nil {
		return s.fail(err)
	}
	defer b.Close()
	r.built(outcome, started)
	if outcome.Result != engine.OK {
		s.tellFailure(outcome)
	}

	// From here on the work of the build is done: what follows is the exit
	// trap. A signal shortens it but does not skip it.
	started = time.Now()
	trap, release := exitTrap(ctx, outcome)
	defer release()
	delivered, deliverErr := deliver(trap, s, o, p, b, outcome)
	r.delivered(delivered, deliverErr)
	saved := cache.Save(trap, client, b, p.plan, found, completed(e, p, b, outcome), version())
	r.saved(b.Steps(), saved, started)

	b.Close() // ends the progress before the report is printed
	if err := r.write(s, o); err != nil {
		s.talk("write --report: %v", err)
	}
	return s.exitStatus(ctx, outcome, deliverErr)
}

// buildWith builds, and builds once more without the cache when it was the
// cache that failed the build: BuildKit treats a blob that is listed and gone
// as an error, not as a miss (moby/buildkit #2332).
func buildWith(ctx context.Context, s surroundings, e *engine.Engine, r engine.Request) (engine.Build, engine.Outcome, error) {
	b, err := e.Start(ctx, r)
	if err != nil {
		return nil, engine.Outcome{}, err
	}
	outcome := b.Wait()
	if outcome.Result != engine.BuildFailed || len(r.Imports) == 0 || !outcome.CacheFault() {
		return b, outcome, nil
	}
	b.Close()
	s.talk("warning: the cache %s broke the build (%v); building again without it", r.Imports[0].Attributes["ref"], outcome.Err)
	r.Imports = nil
	if b, err = e.Start(ctx, r); err != nil {
		return nil, outcome, err
	}
	return b, b.Wait(), nil
}

// exitTrap is the context of what is done after the build, whatever its
// outcome. It outlives the build's own context, within bounds.
func exitTrap(ctx context.Context, outcome engine.Outcome) (context.Context, context.CancelFunc) {
	limit := saveLimit
	if outcome.Result == engine.BuildCanceled {
		limit = grace
	}
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}

// Bounds of the exit trap: for a build that ended by itself, and for one that
// was cancelled and may be killed soon.
const (
	saveLimit = 30 * time.Minute
	grace     = 4 * time.Minute
)

// deliver gives the image of a successful build its names and destinations.
func deliver(ctx context.Context, s surroundings, o *options, p *prepared, b engine.Build, outcome engine.Outcome) (engine.Delivered, error) {
	if outcome.Result != engine.OK {
		return engine.Delivered{}, nil
	}
	d := engine.Delivery{Names: p.names(), Push: o.push, Outputs: o.build.Outputs, CacheTo: o.build.CacheTo, Stdout: s.stdout}
	delivered, err := b.Deliver(ctx, d)
	if err != nil {
		return delivered, err
	}
	return delivered, errors.Join(writeIIDFile(o, delivered), writeMetadata(o, delivered), s.printID(o, delivered))
}

// completed sums up what the build has results for.
func completed(e *engine.Engine, p *prepared, b engine.Build, outcome engine.Outcome) cache.Completed {
	c := cache.Completed{Success: outcome.Result == engine.OK, SeparateCache: e.Capabilities.RegistryCache}
	byStage := map[int]*cache.CompletedStage{}
	for _, stage := range p.stages {
		byStage[stage] = &cache.CompletedStage{Index: stage, Whole: true}
	}
	for _, step := range b.Steps() {
		stage := byStage[step.Stage]
		stage.Whole = stage.Whole && step.Complete()
		stage.New = stage.New || step.Status == engine.Ran
	}
	for _, stage := range p.stages {
		c.Stages = append(c.Stages, *byStage[stage])
	}
	return c
}
