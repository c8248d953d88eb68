package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/opencontainers/go-digest"
)

// display shows a build as docker build does, with BuildKit's own renderer.
type display struct {
	heartbeat *heartbeat // nil for none
	written   written
	mu        sync.Mutex
	stream    chan *bkclient.SolveStatus
	done      chan struct{}
	closed    bool
}

func newDisplay(p Progress, file *stages.File) (*display, error) {
	d := &display{written: written{file, p.Hidden}, stream: make(chan *bkclient.SolveStatus), done: make(chan struct{})}
	if p.Quiet > 0 {
		d.heartbeat = newHeartbeat(p.Out, p.Quiet)
		p.Out = d.heartbeat
	}
	renderer, err := progressui.NewDisplay(p.Out, progressui.DisplayMode(p.Mode))
	if err != nil {
		d.heartbeat.stop()
		return nil, fmt.Errorf("show progress: %w", err)
	}
	go func() {
		defer close(d.done)
		// The display ends with its stream, not with the build's context: the
		// last lines of a cancelled build are still to be shown.
		renderer.UpdateFrom(context.Background(), d.stream)
	}()
	return d, nil
}

func (d *display) show(status *bkclient.SolveStatus) {
	status = d.written.status(status)
	d.heartbeat.observe(status)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.stream <- status
	}
}

// exports returns a view for one concurrent export that shows only the
// exporting itself: the steps, and their logs, which such a build replays,
// have been shown.
func (d *display) exports() func(*bkclient.SolveStatus) {
	exporting := map[digest.Digest]bool{}
	return func(status *bkclient.SolveStatus) {
		shown := &bkclient.SolveStatus{}
		for _, v := range status.Vertexes {
			if strings.HasPrefix(v.Name, "exporting") || strings.HasPrefix(v.Name, "pushing") {
				exporting[v.Digest] = true
				shown.Vertexes = append(shown.Vertexes, v)
			}
		}
		for _, s := range status.Statuses {
			if exporting[s.Vertex] {
				shown.Statuses = append(shown.Statuses, s)
			}
		}
		if len(shown.Vertexes)+len(shown.Statuses) > 0 {
			d.show(shown)
		}
	}
}

func (d *display) close() {
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.stream)
	}
	d.mu.Unlock()
	<-d.done
	d.heartbeat.stop()
}
