package engine

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// heartbeat passes a build's output on and breaks its silence: when nothing
// has been written for a while it says what runs, in one line. The nil
// heartbeat is none.
type heartbeat struct {
	out   io.Writer
	quiet time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	running []runningVertex // in the order of their start
}

type runningVertex struct {
	digest digest.Digest
	name   string
	since  time.Time
}

func newHeartbeat(out io.Writer, quiet time.Duration) *heartbeat {
	h := &heartbeat{out: out, quiet: quiet}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(quiet, h.beat)
	return h
}

// Write passes on what is written.
func (h *heartbeat) Write(text []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped {
		h.timer.Reset(h.quiet)
	}
	return h.out.Write(text)
}

// observe notes which vertices run.
func (h *heartbeat) observe(status *bkclient.SolveStatus) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range status.Vertexes {
		is := func(r runningVertex) bool { return r.digest == v.Digest }
		switch {
		case v.Started == nil || v.Completed != nil:
			h.running = slices.DeleteFunc(h.running, is)
		case !slices.ContainsFunc(h.running, is):
			// The time of this machine: the engine's clock may be another.
			h.running = append(h.running, runningVertex{v.Digest, v.Name, time.Now()})
		}
	}
}

// runs notes that one step runs now and no other.
func (h *heartbeat) runs(name string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = []runningVertex{{name: name, since: time.Now()}}
}

func (h *heartbeat) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	h.timer.Reset(h.quiet)
	fmt.Fprintf(h.out, "remote-cache: no output for %v; %s\n", h.quiet, h.what())
}

// what says what runs and for how long. Steps of long standing come first;
// names are others' texts.
func (h *heartbeat) what() string {
	const most = 3
	if len(h.running) == 0 {
		return "the build goes on"
	}
	var texts []string
	for _, r := range h.running[:min(most, len(h.running))] {
		name := strings.Join(strings.FieldsFunc(r.name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
		if runes := []rune(name); len(runes) > 100 {
			name = string(runes[:100]) + "..."
		}
		texts = append(texts, fmt.Sprintf("%s runs for %v", name, time.Since(r.since).Round(time.Second)))
	}
	if more := len(h.running) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

// stop ends the heartbeat; what is written is still passed on.
func (h *heartbeat) stop() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	h.timer.Stop()
}
