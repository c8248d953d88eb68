package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// product names the tool to the daemon.
const product = "docker-build-remote-cache"

// dockerfileFrontend is BuildKit's own; it goes over to the one that a syntax
// directive names by itself.
const dockerfileFrontend = "dockerfile.v0"

// solveBuild is a build on a BuildKit that exports caches. One gateway build
// holds everything: it plans all stages as one definition, evaluates those
// that no other stage needs as refs of their own, and then stays open, so that
// what is complete can be exported by further, concurrent builds of
// byte-identical sub-definitions. They join its vertices; nothing runs twice
// and nothing is sent twice.
type solveBuild struct {
	engine  *Engine
	request Request
	sender  *sender
	display *display
	tracker *tracker

	planned   chan struct{} // closed once graphs are set
	graphs    []platformGraph
	evaluated chan struct{} // closed once outcome is set
	outcome   Outcome
	release   chan struct{} // closed by Close: the gateway build may end
	finished  chan struct{} // closed when the gateway build has ended

	stop    context.CancelFunc // ends the gateway build at once
	resumed bool               // made by Resume: there is no gateway build

	compressing sync.Mutex
	compressed  string // the top of the image when its layers were last compressed
	closeOnce   sync.Once
}

// platformGraph is the definition for one platform and where each stage ends
// in it.
type platformGraph struct {
	id       string // the frontend's key for the platform, "" for the only one
	platform ocispec.Platform
	graph    *graph
	ends     map[int]edge // by stage; a stage that is scratch has none
	steps    []stepVertex
	mounts   []mountUse
}

// startSolve begins a build. Ending ctx cancels the steps that run; the build
// is kept until Close, so that the completed ones can still be exported.
func (e *Engine) startSolve(ctx context.Context, r Request) (*solveBuild, error) {
	b, err := e.newSolve(r)
	if err != nil {
		return nil, err
	}
	held, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	go b.run(ctx, held)
	return b, nil
}

func (e *Engine) newSolve(r Request) (*solveBuild, error) {
	sender, err := newSender(r.Options, r.File.TargetStage, e.docker != nil, e.selection.Config)
	if err != nil {
		return nil, err
	}
	shown, err := newDisplay(r.Progress, r.File)
	if err != nil {
		return nil, err
	}
	return &solveBuild{
		engine: e, request: r, sender: sender, display: shown, tracker: newTracker(),
		planned: make(chan struct{}), evaluated: make(chan struct{}), release: make(chan struct{}), finished: make(chan struct{}),
	}, nil
}

// run holds the gateway build open from planning to Close.
func (b *solveBuild) run(ctx, held context.Context) {
	defer close(b.finished)
	evaluated := false
	finish := func(o Outcome) {
		if !evaluated {
			evaluated, b.outcome = true, o
			close(b.evaluated)
		}
	}
	source, target, err := b.definition()
	var opt bkclient.SolveOpt
	if err == nil {
		opt, err = b.sender.solveOpt(source)
		opt.Session = append(opt.Session, servedStores(b.request.Stores)...)
	}
	if err == nil {
		_, err = b.engine.client.Build(held, opt, product, func(held context.Context, gw client.Client) (*client.Result, error) {
			evaluation, cancel := context.WithCancel(held)
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			finish(b.evaluate(ctx, evaluation, gw, target))
			<-b.release
			return client.NewResult(), nil
		}, b.watch())
	}
	if err != nil {
		if ctx.Err() != nil {
			finish(canceledOutcome(ctx))
		}
		finish(Outcome{Result: BuildFailed, Err: err, Line: failingLine(err)})
	}
}

// definition is the Dockerfile to plan and its target, of which one LLB graph
// holds every stage of the request.
func (b *solveBuild) definition() (source []byte, target string, err error) {
	if len(b.request.Stages) > 1 {
		return b.request.File.WithUnion(b.request.Stages)
	}
	source, target = b.request.File.CutAfter(b.request.Target)
	return source, target, nil
}

// watch feeds the status stream of the main build to the tracker and the
// display.
func (b *solveBuild) watch() chan *bkclient.SolveStatus {
	stream := make(chan *bkclient.SolveStatus)
	go func() {
		for status := range stream {
			b.tracker.observe(status)
			b.display.show(status)
		}
	}()
	return stream
}

// evaluate plans the build and runs it to its end, whichever that is.
func (b *solveBuild) evaluate(ctx, evaluation context.Context, gw client.Client, target string) Outcome {
	graphs, err := b.plan(evaluation, gw, target)
	if err != nil {
		if ctx.Err() != nil {
			return canceledOutcome(ctx)
		}
		return Outcome{Result: BuildFailed, Err: err, Line: failingLine(err)}
	}
	b.graphs = graphs
	close(b.planned)

	err = b.evaluateLeaves(evaluation, gw)
	switch {
	case err == nil:
		b.settle()
		return Outcome{Result: OK}
	case ctx.Err() != nil:
		time.Sleep(streamLag)
		return canceledOutcome(ctx)
	default:
		time.Sleep(streamLag)
		return Outcome{Result: BuildFailed, Err: err, Line: failingLine(err)}
	}
}

// plan asks the frontend for the definition; nothing runs.
func (b *solveBuild) plan(ctx context.Context, gw client.Client, target string) ([]platformGraph, error) {
	result, err := gw.Solve(ctx, frontendRequest(gw, target))
	if err != nil {
		return nil, err
	}
	refs, err := platformRefs(result)
	if err != nil {
		return nil, err
	}
	var graphs []platformGraph
	for _, ref := range refs {
		g, err := graphOf(ctx, ref.ref)
		if err != nil {
			return nil, err
		}
		ends := map[int]edge{}
		if len(b.request.Stages) > 1 {
			if ends, err = g.unionEnds(); err != nil {
				return nil, err
			}
		} else if g.root.vertex != "" {
			ends[b.request.Target] = g.root
		}
		graphs = append(graphs, platformGraph{id: ref.id, platform: ref.platform, graph: g, ends: ends, steps: b.stepVertices(g), mounts: mountUses(g, b.request.File)})
	}
	return graphs, nil
}

// frontendRequest asks the Dockerfile frontend for a target's definition; ""
// is the last stage.
func frontendRequest(gw client.Client, target string) client.SolveRequest {
	attrs := maps.Clone(gw.BuildOpts().Opts)
	if target != "" {
		attrs["target"] = target
	}
	return client.SolveRequest{Frontend: dockerfileFrontend, FrontendOpt: attrs}
}

// evaluateLeaves satisfies every stage that no other needs. The first failure
// stops the others unless the request says to keep going.
func (b *solveBuild) evaluateLeaves(ctx context.Context, gw client.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu    sync.Mutex
		first error
		work  sync.WaitGroup
	)
	gate := newMountGate(ctx, b, gw)
	defer gate.fail()
	solve := func(g platformGraph, end edge) {
		gate.below(g, end)
		err := b.evaluateEdge(ctx, gw, g, end)
		if err == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if first == nil || canceledError(first.Error()) && !canceledError(err.Error()) {
			first = err
		}
		if !b.request.KeepGoing {
			cancel()
		}
	}
	for _, g := range b.graphs {
		for _, stage := range b.request.File.Leaves(b.request.Stages) {
			// A stage without a step is a base image: nothing is to be done for
			// it, and evaluating it would pull it.
			if end, ok := g.ends[stage]; ok && !g.graph.fetched(end.vertex) {
				work.Go(func() { solve(g, end) })
			}
		}
	}
	if b.request.KeepGoing {
		over, stopAdopting := context.WithCancel(ctx)
		var adopted sync.WaitGroup
		adopted.Go(func() { b.adopt(over, &adopted, solve) })
		work.Wait()
		stopAdopting()
		adopted.Wait()
	}
	work.Wait()
	return first
}

func (b *solveBuild) evaluateEdge(ctx context.Context, gw client.Client, g platformGraph, e edge) error {
	_, err := gw.Solve(ctx, client.SolveRequest{Definition: g.graph.sub(e), Evaluate: true, CacheImports: b.imports()})
	return err
}

// adopt evaluates a stage as a ref of its own once one of its steps really
// runs, so that it outlives leaves that fail for another reason. Stages that
// are cache hits are left alone: evaluating those could run steps that no leaf
// needs.
func (b *solveBuild) adopt(ctx context.Context, work *sync.WaitGroup, solve func(platformGraph, edge)) {
	taken := map[edge]bool{}
	for {
		changed := b.tracker.wait()
		for _, g := range b.graphs {
			for stage, end := range g.ends {
				if !taken[end] && b.stageRuns(g, stage) {
					taken[end] = true
					work.Go(func() { solve(g, end) })
				}
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (b *solveBuild) stageRuns(g platformGraph, stage int) bool {
	lines := b.request.File.Stages[stage].Lines
	for _, vertex := range g.graph.order {
		if g.graph.fetched(vertex) || !b.tracker.running(vertex) {
			continue
		}
		for _, line := range g.graph.lines(vertex, dockerfileName) {
			if lines.Contains(line) {
				return true
			}
		}
	}
	return false
}

func (b *solveBuild) imports() []client.CacheOptionsEntry {
	var entries []client.CacheOptionsEntry
	for _, spec := range b.request.Imports {
		entries = append(entries, client.CacheOptionsEntry{Type: spec.Type, Attrs: maps.Clone(spec.Attributes)})
	}
	return entries
}

// Wait implements Build.
func (b *solveBuild) Wait() Outcome {
	<-b.evaluated
	return b.outcome
}

func (b *solveBuild) ended() bool {
	select {
	case <-b.evaluated:
		return true
	default:
		return false
	}
}

// Close implements Build.
func (b *solveBuild) Close() error {
	b.closeOnce.Do(func() {
		if !b.ended() {
			b.stop()
		}
		close(b.release)
		select {
		case <-b.finished:
		case <-time.After(closeLimit):
			b.stop()
			<-b.finished
		}
		b.stop()
		b.display.close()
	})
	return nil
}

// closeLimit bounds how long a daemon may take to end a build by itself.
const closeLimit = 2 * time.Second

// platformRef is one platform's part of a gateway result.
type platformRef struct {
	id       string
	platform ocispec.Platform
	ref      client.Reference
}

// platformRefs lists the parts of a result in the frontend's order.
func platformRefs(result *client.Result) ([]platformRef, error) {
	if len(result.Refs) == 0 {
		return []platformRef{{ref: result.Ref}}, nil
	}
	listed, err := exptypes.ParsePlatforms(result.Metadata)
	if err != nil {
		return nil, fmt.Errorf("read the platforms of the build: %w", err)
	}
	var refs []platformRef
	for _, p := range listed.Platforms {
		ref, ok := result.FindRef(p.ID)
		if !ok {
			return nil, errors.New("read the platforms of the build: one is missing from the result")
		}
		refs = append(refs, platformRef{p.ID, p.Platform, ref})
	}
	return refs, nil
}
