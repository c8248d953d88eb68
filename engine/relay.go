package engine

import (
	"maps"
	"slices"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// relay shows several solves of one build as one: what an earlier solve has
// shown as done is not shown again as a hit by the next.
type relay struct {
	display *display

	mu   sync.Mutex
	done map[string]bool // by key and by digest
}

func newRelay(d *display) *relay { return &relay{display: d, done: map[string]bool{}} }

// relayed is the view of one solve.
type relayed struct {
	*relay
	// key is what a vertex is in every solve: digests differ between sessions,
	// and names between targets.
	key    func(*bkclient.Vertex) string
	seen   map[digest.Digest]bool             // decided: true is shown
	open   map[digest.Digest]*bkclient.Vertex // shown and not completed
	closed bool
}

func (r *relay) solve(key func(*bkclient.Vertex) string) *relayed {
	return &relayed{relay: r, key: key, seen: map[digest.Digest]bool{}, open: map[digest.Digest]*bkclient.Vertex{}}
}

func (r *relayed) show(status *bkclient.SolveStatus) {
	shown := &bkclient.SolveStatus{}
	r.mu.Lock()
	for _, v := range status.Vertexes {
		if v.Started == nil {
			continue
		}
		visible, decided := r.seen[v.Digest]
		if !decided {
			visible = !r.done[r.key(v)] && !r.done[v.Digest.String()]
			r.seen[v.Digest] = visible
		}
		if !visible {
			continue
		}
		shown.Vertexes = append(shown.Vertexes, v)
		if v.Completed == nil {
			r.open[v.Digest] = v
			continue
		}
		delete(r.open, v.Digest)
		r.done[r.key(v)], r.done[v.Digest.String()] = v.Error == "", v.Error == ""
	}
	for _, s := range status.Statuses {
		if r.seen[s.Vertex] {
			shown.Statuses = append(shown.Statuses, s)
		}
	}
	for _, l := range status.Logs {
		if r.seen[l.Vertex] {
			shown.Logs = append(shown.Logs, l)
		}
	}
	for _, w := range status.Warnings {
		if r.seen[w.Vertex] {
			shown.Warnings = append(shown.Warnings, w)
		}
	}
	r.mu.Unlock()
	if len(shown.Vertexes)+len(shown.Statuses)+len(shown.Logs)+len(shown.Warnings) > 0 {
		r.display.show(shown)
	}
}

// giveUp ends the view. What it shows as running is shown as over: a later
// solve takes it up again, so that it is neither an error nor cancelled.
func (r *relayed) giveUp(now time.Time) {
	if r.closed {
		return
	}
	r.closed = true
	last := &bkclient.SolveStatus{}
	for _, v := range slices.SortedFunc(maps.Values(r.open), func(a, b *bkclient.Vertex) int { return a.Started.Compare(*b.Started) }) {
		over := *v
		over.Completed = &now
		last.Vertexes = append(last.Vertexes, &over)
	}
	if len(last.Vertexes) > 0 {
		r.display.show(last)
	}
}
