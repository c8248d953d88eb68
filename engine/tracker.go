package engine

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// tracker folds the status stream of a build into what became of each vertex.
type tracker struct {
	mu       sync.Mutex
	vertices map[digest.Digest]*vertexState
	// completedNames holds vertices by name too: one that merged into another
	// session's identical vertex looks unfinished under its own digest and
	// shows up under a foreign one with the same name.
	completedNames map[string]bool
	ranNames       map[string]bool // of those, what was not a hit
	changed        chan struct{}   // closed and replaced at every change
}

type vertexState struct {
	cached    bool // sticky: a hit whose layer is pulled later reports false again
	inferred  bool // a hit only if something that needs it has a result
	completed bool // sticky, and without error
	running   bool
	err       string
	// A vertex may start and complete several times; worked is the sum.
	worked  time.Duration
	counted time.Time // start of the last run that is in worked
}

func newTracker() *tracker {
	return &tracker{
		vertices:       map[digest.Digest]*vertexState{},
		completedNames: map[string]bool{},
		ranNames:       map[string]bool{},
		changed:        make(chan struct{}),
	}
}

// observe takes in one message of the status stream.
func (t *tracker) observe(status *bkclient.SolveStatus) {
	if len(status.Vertexes) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range status.Vertexes {
		state := t.vertices[v.Digest]
		if state == nil {
			state = &vertexState{}
			t.vertices[v.Digest] = state
		}
		if inferredHit(v) {
			state.inferred = true
			continue
		}
		state.cached = state.cached || v.Cached
		state.running = v.Started != nil && v.Completed == nil && !v.Cached
		if v.Completed != nil && v.Error == "" {
			state.completed = true
			t.completedNames[v.Name] = true
			t.ranNames[v.Name] = t.ranNames[v.Name] || !state.cached
		}
		if v.Error != "" {
			state.err = v.Error
		}
		if v.Started != nil && v.Completed != nil && !v.Cached && !v.Started.Equal(state.counted) {
			state.counted = *v.Started
			state.worked += v.Completed.Sub(*v.Started)
		}
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// inferredHit tells whether BuildKit never looked at a vertex: when the first
// user of a vertex starts, it calls the vertex a hit that took no time
// (moby/buildkit solver/progress.go). A user that fails or is cancelled before
// it begins "starts" too.
func inferredHit(v *bkclient.Vertex) bool {
	return v.Cached && v.Started != nil && v.Completed != nil && v.Started.Equal(*v.Completed)
}

// wait returns a channel that is closed at the next change.
func (t *tracker) wait() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

func (t *tracker) running(vertex digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.vertices[vertex]
	return state != nil && state.running
}

// completed tells whether a vertex of g has a result.
func (t *tracker) completed(g *graph, vertex digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hasResult(g, vertex) || t.passedOver(g, vertex)
}

func (t *tracker) hasResult(g *graph, vertex digest.Digest) bool {
	state := t.vertices[vertex]
	return state != nil && state.completed || t.completedNames[g.name(vertex)]
}

// passedOver tells whether a vertex was not looked at because something that
// needs it has a result.
func (t *tracker) passedOver(g *graph, vertex digest.Digest) bool {
	if state := t.vertices[vertex]; state == nil || !state.inferred {
		return false
	}
	seen := map[digest.Digest]bool{}
	pending := slices.Clone(g.users[vertex])
	for len(pending) > 0 {
		user := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if seen[user] {
			continue
		}
		if seen[user] = true; t.hasResult(g, user) {
			return true
		}
		pending = append(pending, g.users[user]...)
	}
	return false
}

// status is what became of a vertex of g and how long it worked. ended says
// that the build is over: what still runs then was cancelled.
func (t *tracker) status(g *graph, vertex digest.Digest, ended bool) (Status, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.vertices[vertex]
	switch {
	case state == nil:
		if t.completedNames[g.name(vertex)] {
			return Cached, 0
		}
		return Pending, 0
	case state.cached:
		return Cached, 0
	case state.completed:
		return Ran, state.worked
	case t.ranNames[g.name(vertex)]:
		return Ran, state.worked
	case t.completedNames[g.name(vertex)], t.passedOver(g, vertex):
		return Cached, 0
	case canceledError(state.err), state.running && ended:
		return Canceled, state.worked
	case state.err != "":
		return Failed, state.worked
	default:
		return Pending, 0
	}
}

// snapshot is what became of the vertices that were seen, as plain data, the
// names of those that completed, and of those that ran.
func (t *tracker) snapshot() (_ []VertexSnapshot, completed, ran []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var vertices []VertexSnapshot
	for _, vertex := range slices.Sorted(maps.Keys(t.vertices)) {
		state := t.vertices[vertex]
		vertices = append(vertices, VertexSnapshot{
			Digest: vertex, Cached: state.cached, Inferred: state.inferred, Completed: state.completed, Running: state.running, Error: state.err, Started: state.counted, Worked: state.worked,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(t.completedNames)) {
		completed = append(completed, name)
		if t.ranNames[name] {
			ran = append(ran, name)
		}
	}
	return vertices, completed, ran
}

func (t *tracker) restore(vertices []VertexSnapshot, completed, ran []string) {
	for _, v := range vertices {
		t.vertices[v.Digest] = &vertexState{cached: v.Cached, inferred: v.Inferred, completed: v.Completed, running: v.Running, err: v.Error, counted: v.Started, worked: v.Worked}
	}
	for _, name := range completed {
		t.completedNames[name] = true
	}
	for _, name := range ran {
		t.ranNames[name] = true
	}
}

// ranAt tells whether a vertex is known to have run from that moment on.
func (t *tracker) ranAt(vertex digest.Digest, started time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	state := t.vertices[vertex]
	return state != nil && state.completed && started.Equal(state.counted)
}

// forget takes back that a vertex has a result.
func (t *tracker) forget(vertex digest.Digest, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.vertices, vertex)
	delete(t.completedNames, name)
	delete(t.ranNames, name)
}

// canceledError recognises the text that BuildKit gives to a vertex whose
// solve was cancelled; the stream carries no type.
func canceledError(text string) bool {
	return strings.Contains(text, "context canceled")
}
