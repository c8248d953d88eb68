package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// mountGate has cache mounts restored before the steps that use them begin.
//
// A step's cache mounts are no part of its inputs, so that nothing inside the
// definition can make it wait without giving it another key. Instead the
// definition is evaluated in parts: what a step with a mount needs first, and
// the step itself once its mounts are there. BuildKit does not tell whether a
// step will be a hit; that is concluded from the records of the imported cache
// and from what became of the inputs. A wrong guess costs a restore that
// nobody needed, or gives the step an empty mount, as if nothing were kept.
type mountGate struct {
	build *solveBuild
	gw    client.Client

	// ctx ends when the build has failed: nothing is to be waited for then.
	ctx  context.Context
	fail context.CancelFunc

	mu       sync.Mutex
	passed   map[digest.Digest]func() // waits for a step's mounts, by vertex
	restored map[string]func()        // restores a mount, once, by key
}

func newMountGate(ctx context.Context, b *solveBuild, gw client.Client) *mountGate {
	m := &mountGate{build: b, gw: gw, passed: map[digest.Digest]func(){}, restored: map[string]func(){}}
	m.ctx, m.fail = context.WithCancel(ctx)
	return m
}

// below restores the mounts that the evaluation of an edge will use, while
// what does not wait for one goes on. What goes wrong in doing so is left to
// the evaluation itself.
func (m *mountGate) below(g platformGraph, e edge) {
	var work sync.WaitGroup
	steps := m.stepsBelow(g, e)
	if len(steps) == 0 {
		return
	}
	for _, vertex := range steps {
		work.Go(m.pass(g, vertex))
	}
	for _, beside := range m.beside(g, e, steps) {
		work.Go(func() { m.evaluate(g, beside) })
	}
	work.Wait()
}

// evaluate tells whether an edge has a result.
func (m *mountGate) evaluate(g platformGraph, e edge) bool {
	err := m.build.evaluateEdge(m.ctx, m.gw, g, e)
	if err != nil && !m.build.request.KeepGoing {
		m.fail()
	}
	return err == nil
}

// beside are the topmost edges below e that no step with mounts is below of.
// What needs both cannot be satisfied without them, unless they are known by
// their key alone.
func (m *mountGate) beside(g platformGraph, e edge, steps []digest.Digest) []edge {
	waits := map[digest.Digest]bool{}      // at or above such a step
	for _, vertex := range g.graph.order { // inputs before their users
		waits[vertex] = slices.Contains(steps, vertex) || slices.ContainsFunc(g.graph.ops[vertex].Inputs, func(in *pb.Input) bool {
			return waits[digest.Digest(in.Digest)]
		})
	}
	known := m.hits(g)
	var edges []edge
	g.graph.walk(e, func(below edge) bool {
		if waits[below.vertex] {
			return true
		}
		if !g.graph.fetched(below.vertex) && !known.bare(below.vertex) {
			edges = append(edges, below)
		}
		return false
	})
	return edges
}

func (m *mountGate) hits(g platformGraph) *hits {
	return newHits(g.graph, m.build.request.Mounts.Records, func(v digest.Digest) bool { return m.wasHit(g, v) })
}

// stepsBelow are the steps at or below an edge with mounts to restore.
func (m *mountGate) stepsBelow(g platformGraph, e edge) []digest.Digest {
	wanted := m.build.request.Mounts.restorable()
	if len(wanted) == 0 {
		return nil
	}
	with := map[digest.Digest]bool{}
	for _, use := range g.mounts {
		with[use.vertex] = with[use.vertex] || wanted[use.key]
	}
	var steps []digest.Digest
	seen := map[digest.Digest]bool{}
	g.graph.walk(e, func(e edge) bool {
		if with[e.vertex] && !seen[e.vertex] {
			seen[e.vertex] = true
			steps = append(steps, e.vertex)
		}
		return true
	})
	return steps
}

// pass waits until a step may begin.
func (m *mountGate) pass(g platformGraph, vertex digest.Digest) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.passed[vertex] == nil {
		m.passed[vertex] = sync.OnceFunc(func() { m.open(g, vertex) })
	}
	return m.passed[vertex]
}

func (m *mountGate) open(g platformGraph, vertex digest.Digest) {
	known := m.hits(g)
	var early, inputs sync.WaitGroup
	var reached atomic.Bool // the step, as nothing that it needs has failed
	reached.Store(true)
	defer early.Wait()
	for _, use := range g.mounts {
		// One that begins with a stage has to wait for it.
		if use.vertex == vertex && use.mount.Input < 0 && !known.possible(vertex) {
			early.Go(m.restore(g, use))
		}
	}
	for _, in := range g.graph.ops[vertex].Inputs {
		if e := inputEdge(in); !g.graph.fetched(e.vertex) && !(known.possible(vertex) && known.bare(e.vertex)) {
			inputs.Go(func() {
				m.below(g, e)
				if !m.evaluate(g, e) {
					reached.Store(false)
				}
			})
		}
	}
	inputs.Wait()
	if !reached.Load() || m.ctx.Err() != nil {
		return
	}
	if known.possible(vertex) {
		known.content = m.build.contents(m.ctx, g.graph, vertex)
	}
	if known.certain(vertex) {
		return
	}
	for _, use := range g.mounts {
		if use.vertex == vertex {
			early.Go(m.restore(g, use))
		}
	}
}

func (m *mountGate) restore(g platformGraph, use mountUse) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.build.request.Mounts
	if !r.restorable()[use.key] {
		return func() {}
	}
	if m.restored[use.key] == nil {
		m.restored[use.key] = sync.OnceFunc(func() {
			r.Restore(m.ctx, use.key, func(ctx context.Context, handler MountHandler) error {
				return m.build.engine.reach(ctx, m.build.sender, g.graph, use, r.Helper, handler)
			})
		})
	}
	return m.restored[use.key]
}

// wasHit tells of a vertex that has been evaluated whether it was a hit, once
// the status stream has told.
func (m *mountGate) wasHit(g platformGraph, vertex digest.Digest) bool {
	limit := time.After(streamLag)
	for {
		changed := m.build.tracker.wait()
		if m.build.tracker.completed(g.graph, vertex) {
			return m.build.hit(g, vertex)
		}
		select {
		case <-changed:
		case <-limit:
			return false
		}
	}
}
