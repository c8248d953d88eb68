package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
)

// copied is a stage that copies from a local directory which is bound to a
// session, as the frontend plans it.
func copied(session string) llb.State {
	context := llb.Local("context", llb.SessionID(session), llb.FollowPaths([]string{"src"}))
	return llb.Image("docker.io/library/base:1").
		Run(llb.Args([]string{"before"}), llb.WithCustomName("before")).Root().
		File(llb.Copy(context, "/src", "/src"), llb.WithCustomName("copy")).
		Run(llb.Args([]string{"after"}), llb.WithCustomName("after")).Root()
}

// A resumed build is the one that was planned, without its session; what does
// not lie above a local directory keeps its digest.
func TestRenewedIsTheSameBuild(t *testing.T) {
	t.Parallel()
	g := defined(t, copied("session-1"))
	raw, err := g.definition.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	s := Snapshot{Platforms: []PlatformSnapshot{{Definition: raw, Ends: []EdgeSnapshot{{Stage: 0, Vertex: g.root.vertex, Output: g.root.output}}}}}
	for _, vertex := range g.order {
		s.Vertices = append(s.Vertices, VertexSnapshot{Digest: vertex, Completed: true})
	}
	graphs, vertices, err := s.renewed()
	if err != nil {
		t.Fatal(err)
	}
	renewed := graphs[0].graph
	var names []string
	for i, vertex := range renewed.order {
		names = append(names, renewed.name(vertex))
		if vertices[i].Digest != vertex {
			t.Errorf("the snapshot's vertex %d is %s, the definition's %s", i, vertices[i].Digest, vertex)
		}
		if session := renewed.ops[vertex].GetSource().GetAttrs()[pb.AttrLocalSessionID]; session != "" {
			t.Errorf("%q is bound to %s", renewed.name(vertex), session)
		}
		if same := g.order[i] == vertex; same != (renewed.name(vertex) == "before" || renewed.ops[vertex].GetSource().GetIdentifier() == "docker-image://docker.io/library/base:1") {
			t.Errorf("%q keeps its digest: %t", renewed.name(vertex), same)
		}
	}
	var want []string
	for _, vertex := range g.order {
		want = append(want, g.name(vertex))
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if end := graphs[0].ends[0]; end != renewed.root || renewed.name(end.vertex) != "after" {
		t.Errorf("the stage ends in %q", renewed.name(end.vertex))
	}
	if _, err := llb.NewDefinitionOp(renewed.sub(renewed.root)); err != nil {
		t.Errorf("not a definition: %v", err)
	}
}

func TestRenewRefusesWhatIsNoDefinition(t *testing.T) {
	t.Parallel()
	orphan, err := (&pb.Op{Inputs: []*pb.Input{{Digest: "sha256:missing"}}}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	definition, err := (&pb.Definition{Def: [][]byte{orphan}}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"an input is missing": definition, "no protobuf": []byte("\xff\xff")} {
		if _, _, err := (Snapshot{Platforms: []PlatformSnapshot{{Definition: raw}}}).renewed(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// What a lost vertex would have had to run for is taken for incomplete, what
// lies below it is not.
func TestForget(t *testing.T) {
	t.Parallel()
	_, _, _, union := threeStages()
	g := defined(t, union)
	ends, err := g.unionEnds()
	if err != nil {
		t.Fatal(err)
	}
	b := &solveBuild{tracker: newTracker(), graphs: []platformGraph{{graph: g, ends: ends}}}
	for _, step := range []string{"deps 1", "builder 1", "builder 2", "final 1"} {
		b.tracker.completedNames[step] = true
	}
	parts := []part{{g, ends[1]}, {g, ends[2]}}
	lost := &lostError{vertex: ends[1].vertex, name: "builder 2"}
	if !b.forget(lost, parts) {
		t.Fatal("nothing was forgotten")
	}
	var names []string
	for _, e := range b.frontier(b.graphs[0], []int{0, 1}) {
		names = append(names, g.name(e.vertex))
	}
	if diff := cmp.Diff([]string{"builder 1"}, names); diff != "" {
		t.Error(diff)
	}
	if b.forget(lost, nil) {
		t.Error("forgot what was not there")
	}
}

// The layers of an image are those of what its steps ran on, not of what they
// copied or mounted.
func TestWalkLayers(t *testing.T) {
	t.Parallel()
	_, builder, final, _ := threeStages()
	mounted := final.Run(llb.Args([]string{"final 3"}), llb.WithCustomName("final 3"), llb.AddMount("/m", builder)).Root()
	linked := llb.Merge([]llb.State{mounted, llb.Scratch().File(llb.Copy(builder, "/x", "/x"), llb.WithCustomName("link"))})
	g := defined(t, linked)
	visited := map[string]bool{}
	g.walkLayers(g.root, func(e edge) bool {
		if name := g.name(e.vertex); name != "" {
			visited[name] = true
		}
		return true
	})
	want := map[string]bool{"final 1": true, "final 2": true, "final 3": true, "link": true}
	if diff := cmp.Diff(want, visited); diff != "" {
		t.Error(diff)
	}
}

// A step that would run again is lost. One of which the daemon tells what it
// told the build already is not.
func TestGuard(t *testing.T) {
	t.Parallel()
	_, builder, _, _ := threeStages()
	g := defined(t, builder)
	then := time.Unix(1000, 5)
	ended, now := then.Add(time.Second), then.Add(time.Minute)
	step := g.root.vertex
	for name, c := range map[string]struct {
		vertex bkclient.Vertex
		lost   bool
	}{
		"a hit":             {bkclient.Vertex{Digest: step, Started: &now, Cached: true}, false},
		"told once more":    {bkclient.Vertex{Digest: step, Started: &then, Completed: &ended}, false},
		"runs again":        {bkclient.Vertex{Digest: step, Started: &now}, true},
		"a base image":      {bkclient.Vertex{Digest: g.order[0], Started: &now}, false},
		"part of an export": {bkclient.Vertex{Digest: "sha256:exporting", Started: &now}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := newTracker()
			before.observe(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: step, Started: &then, Completed: &ended}}})
			b := &solveBuild{tracker: newTracker(), graphs: []platformGraph{{graph: g}}, resumed: true}
			b.tracker.restore(before.snapshot())
			ctx, watch := b.guard(t.Context())
			watch(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{&c.vertex}})
			if lost := errors.Is(context.Cause(ctx), ErrLost); lost != c.lost {
				t.Errorf("lost: %t, want %t", lost, c.lost)
			}
		})
	}
}
