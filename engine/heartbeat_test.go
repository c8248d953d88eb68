package engine

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// lockedText is a writer that may be read while it is written.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func vertex(name string, started, completed bool) *bkclient.SolveStatus {
	now := time.Now()
	v := &bkclient.Vertex{Digest: digest.FromString(name), Name: name}
	if started {
		v.Started = &now
	}
	if completed {
		v.Completed = &now
	}
	return &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lockedText
		h := newHeartbeat(&out, 4*time.Minute)
		h.observe(vertex("[builder 2/3] RUN make\r\n::evil::", true, false))
		time.Sleep(3 * time.Minute)
		h.Write([]byte("line\n"))
		time.Sleep(3 * time.Minute) // six since the start, three since the line
		if got := out.String(); got != "line\n" {
			t.Fatalf("not silent for long enough: %q", got)
		}
		h.observe(vertex("[builder 2/3] RUN make\r\n::evil::", true, false)) // told again
		h.observe(vertex("[test 1/2] COPY . .", true, false))
		h.observe(vertex("[test 2/2] RUN check", false, false))
		time.Sleep(time.Minute + time.Second)
		h.observe(vertex("[builder 2/3] RUN make\r\n::evil::", true, true))
		time.Sleep(4 * time.Minute)
		h.observe(vertex("[test 1/2] COPY . .", true, true))
		time.Sleep(4 * time.Minute)
		h.stop()
		time.Sleep(time.Hour)
		h.Write([]byte("end\n"))
		want := `line
remote-cache: no output for 4m0s; [builder 2/3] RUN make ::evil:: runs for 7m0s, [test 1/2] COPY . . runs for 1m0s
remote-cache: no output for 4m0s; [test 1/2] COPY . . runs for 5m0s
remote-cache: no output for 4m0s; the build goes on
end
`
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestHeartbeatOfManySteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lockedText
		h := newHeartbeat(&out, time.Minute)
		defer h.stop()
		for _, name := range []string{"a", "b", "c", strings.Repeat("d", 1000), "e"} {
			h.observe(vertex(name, true, false))
		}
		time.Sleep(time.Minute + time.Second)
		if got := out.String(); !strings.HasSuffix(got, "c runs for 1m0s, and 2 more\n") || strings.Count(got, "\n") != 1 {
			t.Errorf("got %q", got)
		}
	})
}

// The classic builder runs one step at a time.
func TestHeartbeatOfOneStepAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lockedText
		h := newHeartbeat(&out, time.Minute)
		defer h.stop()
		h.runs("RUN one")
		h.runs("RUN two\n")
		time.Sleep(time.Minute + time.Second)
		if got, want := out.String(), "remote-cache: no output for 1m0s; RUN two runs for 1m0s\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A display without a heartbeat, as on a terminal, has none to stop.
func TestNoHeartbeat(t *testing.T) {
	t.Parallel()
	var h *heartbeat
	h.observe(vertex("a", true, false))
	h.stop()
}
