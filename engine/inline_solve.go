package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
)

// stageSolve is one solve of one stage, up to its end or up to a line, and
// what was seen of it.
type stageSolve struct {
	stage int
	// yields gives the solve up before it runs a step of another stage.
	yields bool
	// hitsOnly gives it up before it runs any step.
	hitsOnly bool
	// verdictOnly ends it as soon as every step is known to be cached.
	verdictOnly bool
	// unrestored are the cache mounts, by key, before whose steps it is given
	// up.
	unrestored map[string]bool
	// before is the line of a step before which the solve ends, without an
	// image; 0 for one of the whole stage.
	before int

	tracker *tracker
	planned *graph     // as the frontend has made it, nil until then; guarded by the build's mu
	graph   *graph     // as it is solved, which may be a part; likewise
	mounts  []mountUse // of planned; likewise
	ended   bool       // likewise
	verdict error      // why it was given up, nil if it was not; likewise
}

// Reasons to give a solve up.
var (
	errYielded   = errors.New("another stage has to be built first")
	errNotCached = errors.New("a step is not in the engine's cache any more")
	errAllCached = errors.New("every step is cached")
)

func (s *stageSolve) gaveUp() bool { return s.verdict != nil }

// judge tells whether to give the solve up, and why. A hit does not count as
// running, though its layers may be being fetched.
func (s *stageSolve) judge(file *stages.File) error {
	if s.graph == nil || !s.yields && !s.hitsOnly && !s.verdictOnly && len(s.unrestored) == 0 {
		return nil
	}
	allCached, own := true, file.Stages[s.stage].Lines
	for _, vertex := range s.graph.order {
		if s.graph.fetched(vertex) {
			continue
		}
		cached := s.tracker.cached(vertex)
		allCached = allCached && cached
		if cached || !s.tracker.begun(vertex) {
			continue
		}
		running := s.tracker.running(vertex)
		lines := s.graph.lines(vertex, dockerfileName)
		mine := len(lines) == 0
		for _, line := range lines {
			mine = mine || own.Contains(line)
		}
		switch {
		case s.hitsOnly && running:
			return errNotCached
		case s.yields && !mine && running:
			return errYielded
		}
		if keys := s.needed(vertex); len(keys) > 0 {
			return &mountsNeeded{keys}
		}
	}
	if s.verdictOnly && allCached && len(s.graph.order) > 0 {
		return errAllCached
	}
	return nil
}

// looked is the verdict of a look that came to its end.
func (s *stageSolve) looked() error {
	if errors.Is(s.verdict, errAllCached) {
		return nil
	}
	return s.verdict
}

// steps is what became of the instructions that the solve had to do with, by
// line.
func (s *stageSolve) steps(file *stages.File) map[int]Step {
	byLine := map[int]Step{}
	if s.graph == nil {
		return byLine
	}
	for _, vertex := range s.graph.order {
		if s.graph.fetched(vertex) {
			continue
		}
		status, worked := s.tracker.status(s.graph, vertex, s.ended)
		for _, line := range s.graph.lines(vertex, dockerfileName) {
			stage, in, ok := instructionAt(file, line)
			if !ok {
				continue
			}
			step, seen := byLine[in.Lines.First]
			if !seen {
				step = Step{Stage: stage, Line: in.Lines.First, Instruction: in.Text, Status: status}
			}
			step.Status = worse(step.Status, status)
			step.Duration += worked
			byLine[in.Lines.First] = step
		}
	}
	return byLine
}

// key identifies a vertex to the display: by its lines of the Dockerfile where
// it is a step, else by its name.
func (s *stageSolve) key(v *bkclient.Vertex) string {
	if s.graph == nil || s.graph.fetched(v.Digest) {
		return v.Name
	}
	if lines := s.graph.lines(v.Digest, dockerfileName); len(lines) > 0 {
		return fmt.Sprint(lines)
	}
	return v.Name
}

// cached tells whether a vertex is known to be a hit.
func (t *tracker) cached(vertex digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.vertices[vertex]
	return state != nil && state.cached
}

// begun tells whether a vertex is no hit and runs, or has run, even to a failure.
func (t *tracker) begun(vertex digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.vertices[vertex]
	return state != nil && !state.cached && (state.running || state.completed || state.err != "" && !canceledError(state.err))
}

// failedLine is the line of the step that failed, 0 when none did. Docker
// 20.10 tells it only in the status stream.
func (s *stageSolve) failedLine() int {
	if s.graph == nil {
		return 0
	}
	for _, vertex := range s.graph.order {
		if status, _ := s.tracker.status(s.graph, vertex, true); status == Failed {
			for _, line := range s.graph.lines(vertex, dockerfileName) {
				return line
			}
		}
	}
	return 0
}

// solveImage runs a solve and exports its result, without a name but with its
// cache inside, to the engine's image store. The image's id is "" when the
// verdict alone was wanted.
func (b *inlineBuild) solveImage(ctx context.Context, s *stageSolve, dockerfile []byte, target string) (id string, err error) {
	opt := bkclient.SolveOpt{}
	if s.before == 0 {
		opt.Exports = []bkclient.ExportEntry{{Type: "moby", Attrs: map[string]string{}}}
		opt.CacheExports = []bkclient.CacheOptionsEntry{{Type: "inline"}}
	}
	response, err := b.solve(ctx, s, dockerfile, target, opt)
	if err != nil || response == nil {
		return "", err
	}
	id = response[exptypes.ExporterImageConfigDigestKey]
	if id == "" { // 20.10 has the id under this key
		id = response[exptypes.ExporterImageDigestKey]
	}
	if _, err := digest.Parse(id); err != nil {
		return "", errors.New("export image: the engine's answer holds no image id")
	}
	return id, nil
}

// solve runs a solve. Its response is nil when the verdict alone was wanted.
func (b *inlineBuild) solve(ctx context.Context, s *stageSolve, dockerfile []byte, target string, opt bkclient.SolveOpt) (map[string]string, error) {
	session, err := b.sender.solveOpt(dockerfile)
	if err != nil {
		return nil, err
	}
	session.Exports, session.CacheExports = opt.Exports, opt.CacheExports
	for _, spec := range b.importsOf(s.stage) {
		session.CacheImports = append(session.CacheImports, bkclient.CacheOptionsEntry{Type: spec.Type, Attrs: maps.Clone(spec.Attributes)})
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	stream, watched := b.watch(s, giveUp)
	response, err := b.engine.client.Build(ctx, session, product, func(ctx context.Context, gw client.Client) (*client.Result, error) {
		return b.plan(ctx, s, gw, target)
	}, stream)
	<-watched
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil && s.before > 0: // even if all have run before it could be given up
		return nil, s.looked()
	case err == nil:
		return response.ExporterResponse, nil
	case errors.Is(s.verdict, errAllCached):
		return nil, nil
	case s.verdict != nil:
		return nil, s.verdict
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	line := s.failedLine()
	if line == 0 {
		line = lineInText(err)
	}
	return nil, withLine(err, line, b.request.File)
}

// plan asks the frontend for the definition, in the very session that is then
// evaluated: another session's vertices have other digests.
func (b *inlineBuild) plan(ctx context.Context, s *stageSolve, gw client.Client, target string) (*client.Result, error) {
	result, err := gw.Solve(ctx, frontendRequest(gw, target))
	if err != nil {
		return nil, err
	}
	refs, err := platformRefs(result)
	if err != nil {
		return nil, err
	}
	g, err := graphOf(ctx, refs[0].ref) // more than one platform was refused
	if err != nil {
		return nil, err
	}
	planned, some := g, true
	if s.before > 0 {
		if g, some, err = g.cut(s.before); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	s.planned, s.graph, s.mounts = planned, g, mountUses(planned, b.request.File)
	b.mu.Unlock()
	switch {
	case !some:
		return client.NewResult(), nil
	case s.before > 0:
		return b.solveCut(ctx, s, gw, g)
	}
	return result, nil
}

// watch follows a solve's status stream.
func (b *inlineBuild) watch(s *stageSolve, giveUp context.CancelCauseFunc) (stream chan *bkclient.SolveStatus, watched chan struct{}) {
	stream, watched = make(chan *bkclient.SolveStatus), make(chan struct{})
	show := b.relay.solve(func(v *bkclient.Vertex) string {
		b.mu.Lock()
		defer b.mu.Unlock()
		return s.key(v)
	})
	// The display may be slow, and a step that is to be stopped is not.
	queue := make(chan func(), 1<<12)
	go func() {
		defer close(watched)
		for next := range queue {
			next()
		}
	}()
	go func() {
		defer close(queue)
		for status := range stream {
			s.tracker.observe(status)
			b.mu.Lock()
			if s.verdict == nil {
				s.verdict = s.judge(b.request.File)
			}
			verdict := s.verdict
			b.mu.Unlock()
			if verdict == nil {
				queue <- func() { show.show(status) }
				continue
			}
			giveUp(verdict)
			queue <- func() { show.giveUp(time.Now()) }
		}
	}()
	return stream, watched
}
