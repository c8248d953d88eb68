package engine

import (
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

func TestTrackerStatus(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	end := start.Add(3 * time.Second)
	const own, above, foreign = digest.Digest("sha256:own"), digest.Digest("sha256:above"), digest.Digest("sha256:foreign")
	g := &graph{users: map[digest.Digest][]digest.Digest{own: {above}}, definition: &pb.Definition{Metadata: map[string]*pb.OpMetadata{
		string(own):   {Description: map[string]string{"llb.customname": "[builder 2/5] RUN make"}},
		string(above): {Description: map[string]string{"llb.customname": "[builder 3/5] COPY x x"}},
	}}}
	vertex := func(d digest.Digest, edit func(*bkclient.Vertex)) *bkclient.Vertex {
		v := &bkclient.Vertex{Digest: d, Name: "[builder 2/5] RUN make"}
		edit(v)
		return v
	}
	started := vertex(own, func(v *bkclient.Vertex) { v.Started = &start })
	completed := vertex(own, func(v *bkclient.Vertex) { v.Started, v.Completed = &start, &end })
	hit := vertex(own, func(v *bkclient.Vertex) { v.Started, v.Completed, v.Cached = &start, &end, true })
	failed := vertex(own, func(v *bkclient.Vertex) { v.Started, v.Completed, v.Error = &start, &end, "exit code: 1" })
	canceled := vertex(own, func(v *bkclient.Vertex) { v.Started, v.Completed, v.Error = &start, &end, "context canceled" })
	inferred := vertex(own, func(v *bkclient.Vertex) { v.Started, v.Completed, v.Cached = &start, &start, true })
	user := func(edit func(*bkclient.Vertex)) *bkclient.Vertex {
		v := &bkclient.Vertex{Digest: above, Name: "[builder 3/5] COPY x x", Started: &start, Completed: &end}
		edit(v)
		return v
	}
	userHit := user(func(v *bkclient.Vertex) { v.Cached = true })
	userFailed := user(func(v *bkclient.Vertex) { v.Error = `"/x": not found` })
	hitElsewhere := vertex(foreign, func(v *bkclient.Vertex) { v.Started, v.Completed, v.Cached = &start, &end, true })
	elsewhere := vertex(foreign, func(v *bkclient.Vertex) { v.Started, v.Completed = &start, &end })
	cases := map[string]struct {
		stream   []*bkclient.Vertex
		ended    bool
		status   Status
		worked   time.Duration
		complete bool
	}{
		"never heard of":                   {status: Pending},
		"running":                          {stream: []*bkclient.Vertex{started}, status: Pending},
		"running when the build ended":     {stream: []*bkclient.Vertex{started}, ended: true, status: Canceled},
		"completed":                        {stream: []*bkclient.Vertex{started, completed}, status: Ran, worked: 3 * time.Second, complete: true},
		"completed twice over":             {stream: []*bkclient.Vertex{completed, completed}, status: Ran, worked: 3 * time.Second, complete: true},
		"a hit":                            {stream: []*bkclient.Vertex{hit}, status: Cached, complete: true},
		"a hit whose layer is pulled":      {stream: []*bkclient.Vertex{hit, started, completed}, status: Cached, complete: true},
		"failed":                           {stream: []*bkclient.Vertex{started, failed}, ended: true, status: Failed, worked: 3 * time.Second},
		"canceled":                         {stream: []*bkclient.Vertex{started, canceled}, ended: true, status: Canceled, worked: 3 * time.Second},
		"merged into another that went on": {stream: []*bkclient.Vertex{started, canceled, completed}, status: Ran, worked: 3 * time.Second, complete: true},
		"passed over for a hit above":      {stream: []*bkclient.Vertex{inferred, userHit}, status: Cached, complete: true},
		"called a hit by a failure above":  {stream: []*bkclient.Vertex{inferred, userFailed}, ended: true, status: Pending},
		"called a hit, then canceled":      {stream: []*bkclient.Vertex{inferred, canceled, userFailed}, ended: true, status: Canceled, worked: 3 * time.Second},
		"a hit of another session":         {stream: []*bkclient.Vertex{inferred, hitElsewhere}, status: Cached, complete: true},
		"begun here, run elsewhere":        {stream: []*bkclient.Vertex{started, elsewhere}, status: Ran, complete: true},
		"completed in another session":     {stream: []*bkclient.Vertex{elsewhere}, status: Cached, complete: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTracker()
			for _, v := range c.stream {
				tr.observe(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}})
			}
			status, worked := tr.status(g, own, c.ended)
			if status != c.status || worked != c.worked {
				t.Errorf("got %s after %v, want %s after %v", status, worked, c.status, c.worked)
			}
			if complete := tr.completed(g, own); complete != c.complete {
				t.Errorf("completed: got %v, want %v", complete, c.complete)
			}
			resumed := newTracker()
			resumed.restore(tr.snapshot())
			if status, worked := resumed.status(g, own, c.ended); status != c.status || worked != c.worked {
				t.Errorf("resumed: got %s after %v, want %s after %v", status, worked, c.status, c.worked)
			}
		})
	}
}

func TestTrackerTellsOfChanges(t *testing.T) {
	t.Parallel()
	tr := newTracker()
	changed := tr.wait()
	tr.observe(&bkclient.SolveStatus{})
	select {
	case <-changed:
		t.Fatal("a message without vertices counts as a change")
	default:
	}
	tr.observe(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: "sha256:a"}}})
	<-changed // or the test times out
}
