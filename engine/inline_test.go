package engine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

const twoStages = `FROM base AS builder
RUN one
FROM base
RUN two
RUN three
`

// plannedFor is the definition of twoStages: a base image, and a vertex for
// each step that is named for its line.
func plannedFor() *graph {
	source := &pb.Source{Infos: []*pb.SourceInfo{{Filename: dockerfileName}}, Locations: map[string]*pb.Locations{}}
	g := &graph{definition: &pb.Definition{Source: source}, ops: map[digest.Digest]*pb.Op{}}
	add := func(vertex digest.Digest, op *pb.Op, line int32) {
		g.order, g.ops[vertex] = append(g.order, vertex), op
		source.Locations[vertex.String()] = &pb.Locations{Locations: []*pb.Location{{
			Ranges: []*pb.Range{{Start: &pb.Position{Line: line}, End: &pb.Position{Line: line}}},
		}}}
	}
	add("base", &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{}}}, 1)
	add("two", &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{}}}, 2)
	add("four", &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{}}}, 4)
	add("five", &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{}}}, 5)
	return g
}

var clock = time.Unix(0, 0)

func running(v digest.Digest) *bkclient.Vertex {
	return &bkclient.Vertex{Digest: v, Name: v.String(), Started: &clock}
}

func ran(v digest.Digest) *bkclient.Vertex {
	later := clock.Add(time.Second)
	return &bkclient.Vertex{Digest: v, Name: v.String(), Started: &clock, Completed: &later}
}

func hit(v digest.Digest) *bkclient.Vertex {
	later := clock.Add(time.Millisecond) // BuildKit looked: see inferredHit
	return &bkclient.Vertex{Digest: v, Name: v.String(), Started: &clock, Completed: &later, Cached: true}
}

func failing(v digest.Digest, text string) *bkclient.Vertex {
	vertex := ran(v)
	vertex.Error = text
	return vertex
}

func parsed(t *testing.T, text string) *stages.File {
	t.Helper()
	file, err := stages.Parse([]byte(text), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestStageSolveIsGivenUp(t *testing.T) {
	t.Parallel()
	fetching := running("five") // a hit whose layers are being fetched
	for name, test := range map[string]struct {
		solve    stageSolve
		vertices []*bkclient.Vertex
		want     error
	}{
		"base image":              {stageSolve{yields: true, hitsOnly: true}, []*bkclient.Vertex{running("base")}, nil},
		"own step":                {stageSolve{yields: true}, []*bkclient.Vertex{running("four")}, nil},
		"other stage's step":      {stageSolve{yields: true}, []*bkclient.Vertex{running("four"), running("two")}, errYielded},
		"other stage's hit":       {stageSolve{yields: true}, []*bkclient.Vertex{hit("two"), running("four")}, nil},
		"needs are built":         {stageSolve{}, []*bkclient.Vertex{running("two")}, nil},
		"export runs a step":      {stageSolve{hitsOnly: true}, []*bkclient.Vertex{hit("two"), running("four")}, errNotCached},
		"export fetches":          {stageSolve{hitsOnly: true}, []*bkclient.Vertex{hit("five"), fetching}, nil},
		"verdict: all cached":     {stageSolve{verdictOnly: true}, []*bkclient.Vertex{hit("two"), hit("four"), hit("five"), fetching}, errAllCached},
		"verdict: one is unknown": {stageSolve{verdictOnly: true}, []*bkclient.Vertex{hit("two"), hit("four")}, nil},
		"image wanted":            {stageSolve{yields: true}, []*bkclient.Vertex{hit("two"), hit("four"), hit("five")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &test.solve
			s.stage, s.tracker = 1, newTracker()
			for _, v := range test.vertices {
				s.tracker.observe(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}})
			}
			file := parsed(t, twoStages)
			if got := s.judge(file); got != nil {
				t.Errorf("not planned: %v", got)
			}
			s.graph = plannedFor()
			if got := s.judge(file); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// A solve is given up for the mounts that are not restored yet of the step that
// runs and of those that will run because of it.
func TestStageSolveIsGivenUpForMounts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		unrestored []string
		vertices   []*bkclient.Vertex
		want       []string
	}{
		"the step itself":            {[]string{"own", "other"}, []*bkclient.Vertex{running("five")}, []string{"own"}},
		"a step before it":           {[]string{"own", "other"}, []*bkclient.Vertex{running("four")}, []string{"own"}},
		"a quick step before it":     {[]string{"own", "other"}, []*bkclient.Vertex{ran("four")}, []string{"own"}},
		"the step has failed":        {[]string{"own", "other"}, []*bkclient.Vertex{failing("five", "invalid argument")}, []string{"own"}},
		"the build is interrupted":   {[]string{"own"}, []*bkclient.Vertex{failing("five", "context canceled")}, nil},
		"a hit before it":            {[]string{"own", "other"}, []*bkclient.Vertex{hit("four")}, nil},
		"a step beside it":           {[]string{"own"}, []*bkclient.Vertex{running("two")}, nil},
		"restored already":           {nil, []*bkclient.Vertex{running("five")}, nil},
		"another stage's step":       {[]string{"own", "other"}, []*bkclient.Vertex{running("two")}, []string{"other"}},
		"the base image is fetched":  {[]string{"own", "other"}, []*bkclient.Vertex{running("base")}, nil},
		"a hit whose layers are got": {[]string{"own"}, []*bkclient.Vertex{hit("five"), running("five")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stageSolve{stage: 1, tracker: newTracker(), unrestored: map[string]bool{}, graph: plannedFor()}
			s.graph.ops["five"].Inputs = []*pb.Input{{Digest: "four"}}
			s.mounts = []mountUse{{key: "own", vertex: "five"}, {key: "other", vertex: "two"}}
			s.planned = s.graph
			for _, key := range test.unrestored {
				s.unrestored[key] = true
			}
			for _, v := range test.vertices {
				s.tracker.observe(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}})
			}
			var got []string
			needed := (*mountsNeeded)(nil)
			if errors.As(s.judge(parsed(t, twoStages)), &needed) {
				got = needed.keys
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A look is worth its time where steps stand before the one with the mount.
func TestLooksBeforeMounts(t *testing.T) {
	t.Parallel()
	file := parsed(t, `FROM base AS first
RUN --mount=type=cache,target=/a one
COPY . .
RUN --mount=type=cache,target=/a two
RUN --mount=type=cache,target=/b three
COPY . .
RUN --mount=type=cache,target=/restored four
FROM first
RUN --mount=type=cache,target=/a five
`)
	b := &inlineBuild{request: Request{File: file}}
	for stage, want := range [][]int{{4}, {9}} {
		got := b.looks(&stageSolve{stage: stage, unrestored: map[string]bool{`"/a"`: true, `"/b"`: true}})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stage %d: %s", stage, diff)
		}
	}
	b.request.Options.NoCache = true
	if got := b.looks(&stageSolve{unrestored: map[string]bool{`"/a"`: true}}); got != nil {
		t.Errorf("with --no-cache: %v, and what stands before runs twice", got)
	}
}

// What became of a step is told by the solve that ran it.
func TestInlineStepsOfSeveralSolves(t *testing.T) {
	t.Parallel()
	type solve struct {
		verdict  error
		vertices []*bkclient.Vertex
	}
	yielded := solve{errYielded, []*bkclient.Vertex{hit("four"), running("two"), failing("five", "context canceled")}}
	for name, test := range map[string]struct {
		solves []solve
		result Result
		want   []Status
	}{
		"nothing yet":       {nil, "", []Status{Pending, Pending, Pending}},
		"given up":          {[]solve{yielded}, "", []Status{Pending, Cached, Pending}},
		"too late":          {[]solve{{nil, []*bkclient.Vertex{hit("two")}}, {errYielded, []*bkclient.Vertex{hit("four"), ran("two")}}}, "", []Status{Cached, Cached, Pending}},
		"then built":        {[]solve{yielded, {nil, []*bkclient.Vertex{ran("two")}}}, "", []Status{Ran, Cached, Pending}},
		"then a hit":        {[]solve{{nil, []*bkclient.Vertex{ran("two")}}, {nil, []*bkclient.Vertex{hit("two"), hit("four"), ran("five")}}}, OK, []Status{Ran, Cached, Ran}},
		"failed":            {[]solve{{nil, []*bkclient.Vertex{ran("two"), failing("four", "exit code: 1")}}}, BuildFailed, []Status{Ran, Failed, Pending}},
		"canceled":          {[]solve{{nil, []*bkclient.Vertex{hit("two"), running("four")}}}, BuildCanceled, []Status{Cached, Canceled, Pending}},
		"hits nobody named": {[]solve{{nil, []*bkclient.Vertex{hit("five")}}}, OK, []Status{Cached, Cached, Cached}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &inlineBuild{request: Request{File: parsed(t, twoStages), Stages: []int{0, 1}}, ended: make(chan struct{})}
			for _, s := range test.solves {
				tracker := newTracker()
				tracker.observe(&bkclient.SolveStatus{Vertexes: s.vertices})
				b.solves = append(b.solves, &stageSolve{stage: 1, tracker: tracker, graph: plannedFor(), verdict: s.verdict, ended: true})
			}
			if test.result != "" {
				b.outcome.Result = test.result
				close(b.ended)
			}
			var got []Status
			for _, step := range b.Steps() {
				got = append(got, step.Status)
				if step.Status == Ran && step.Duration != time.Second {
					t.Errorf("line %d worked %s, want 1s", step.Line, step.Duration)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// One build of several solves shows each step once.
func TestRelayShowsStepsOnce(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	shown, err := newDisplay(Progress{Mode: "plain", Out: &out}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newRelay(shown)
	byName := func(v *bkclient.Vertex) string { return v.Name }
	status := func(vertices ...*bkclient.Vertex) *bkclient.SolveStatus {
		status := &bkclient.SolveStatus{Vertexes: vertices}
		for _, v := range vertices {
			status.Logs = append(status.Logs, &bkclient.VertexLog{Vertex: v.Digest, Data: []byte("log of " + v.Name + "\n"), Timestamp: clock})
		}
		return status
	}
	first := r.solve(byName)
	first.show(status(ran(digest.FromString("a"))))
	first.show(status(running(digest.FromString("b"))))
	first.giveUp(clock)
	second := r.solve(byName)
	second.show(status(hit(digest.FromString("a"))))
	second.show(status(ran(digest.FromString("b"))))
	shown.close()
	for text, want := range map[string]int{
		"log of " + digest.FromString("a").String(): 1,
		"log of " + digest.FromString("b").String(): 2,
		"CACHED":   0,
		"CANCELED": 0,
		"ERROR":    0,
	} {
		if got := strings.Count(out.String(), text); got != want {
			t.Errorf("%q is shown %d times, want %d:\n%s", text, got, want, out.String())
		}
	}
}

func TestStagingNames(t *testing.T) {
	t.Parallel()
	file := parsed(t, twoStages)
	names := map[string]bool{}
	for _, staging := range []string{"", "a", "b"} {
		for stage := range file.Stages {
			name := stagingName(Request{File: file, Staging: staging}, stage, "example.org/app")
			if !strings.HasPrefix(name, "example.org/app:cache-staging-") || names[name] {
				t.Errorf("name %s", name)
			}
			names[name] = true
		}
	}
}
