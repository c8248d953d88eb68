package engine

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
)

// definedRef is a ref that was planned, not evaluated: all that a graph is
// read from.
type definedRef struct {
	client.Reference
	state llb.State
}

func (r definedRef) ToState() (llb.State, error) { return r.state, nil }

func defined(t *testing.T, state llb.State) *graph {
	t.Helper()
	g, err := graphOf(t.Context(), definedRef{state: state})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// three stages as the frontend plans them with a union: deps <- builder, and
// a final one on another base that copies from builder.
func threeStages() (deps, builder, final, union llb.State) {
	run := func(s llb.State, command string) llb.State {
		return s.Run(llb.Args([]string{command}), llb.WithCustomName(command)).Root()
	}
	deps = run(llb.Image("docker.io/library/base:1"), "deps 1")
	builder = run(run(deps, "builder 1"), "builder 2")
	final = run(llb.Image("docker.io/library/slim:1"), "final 1").
		File(llb.Copy(builder, "/out", "/out"), llb.WithCustomName("final 2"))
	union = llb.Scratch()
	for i, stage := range []llb.State{deps, builder, final} {
		union = union.File(llb.Copy(stage, "/", "/"+string(rune('0'+i))+"/"))
	}
	return deps, builder, final, union
}

func TestUnionEnds(t *testing.T) {
	t.Parallel()
	deps, builder, final, union := threeStages()
	g := defined(t, union)
	ends, err := g.unionEnds()
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]edge{0: defined(t, deps).root, 1: defined(t, builder).root, 2: defined(t, final).root}
	if diff := cmp.Diff(want, ends, cmp.AllowUnexported(edge{})); diff != "" {
		t.Error(diff)
	}
}

func TestUnionEndOfScratchIsLeftOut(t *testing.T) {
	t.Parallel()
	deps, _, _, _ := threeStages()
	g := defined(t, llb.Scratch().File(llb.Copy(deps, "/", "/0/")).File(llb.Copy(llb.Scratch(), "/", "/1/")))
	ends, err := g.unionEnds()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := ends[0]; len(ends) != 1 || !ok {
		t.Errorf("got the ends of %v, want that of stage 0 alone", ends)
	}
}

func TestUnionEndsOfSomethingElse(t *testing.T) {
	t.Parallel()
	_, _, final, _ := threeStages()
	if ends, err := defined(t, final).unionEnds(); err == nil {
		t.Errorf("a definition that is no union has the ends %v", ends)
	}
}

// A sub-definition must name the very vertices of the definition it is taken
// from: the daemon then joins or reuses what the main build does.
func TestSubIsMadeOfTheSameVertices(t *testing.T) {
	t.Parallel()
	_, builder, _, union := threeStages()
	g := defined(t, union)
	ends, err := g.unionEnds()
	if err != nil {
		t.Fatal(err)
	}
	sub := g.sub(ends[1])
	alone := defined(t, builder)
	if len(sub.Def) != len(alone.definition.Def) {
		t.Fatalf("got %d ops, want %d", len(sub.Def), len(alone.definition.Def))
	}
	for _, raw := range sub.Def[:len(sub.Def)-1] {
		if vertex := digest.FromBytes(raw); alone.ops[vertex] == nil {
			t.Errorf("%s (%s) is no vertex of the stage", vertex, g.name(vertex))
		}
	}
	state, err := llb.NewDefinitionOp(sub)
	if err != nil {
		t.Fatalf("not a definition: %v", err)
	}
	if _, err := llb.NewState(state.Output()).Marshal(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestFrontierIsTheTopmostCompleted(t *testing.T) {
	t.Parallel()
	_, _, _, union := threeStages()
	g := defined(t, union)
	ends, err := g.unionEnds()
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct{ completed, frontier []string }{
		"nothing":                        {nil, nil},
		"the first step":                 {[]string{"deps 1"}, []string{"deps 1"}},
		"two steps of one chain":         {[]string{"deps 1", "builder 1"}, []string{"builder 1"}},
		"two chains":                     {[]string{"deps 1", "final 1"}, []string{"deps 1", "final 1"}},
		"everything":                     {[]string{"deps 1", "builder 1", "builder 2", "final 1", "final 2"}, []string{"final 2"}},
		"all but what needs both chains": {[]string{"deps 1", "builder 1", "builder 2", "final 1"}, []string{"builder 2", "final 1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &solveBuild{tracker: newTracker()}
			for _, step := range c.completed {
				b.tracker.completedNames[step] = true
			}
			got := map[string]bool{}
			for _, e := range b.frontier(platformGraph{graph: g, ends: ends}, []int{0, 1, 2}) {
				got[g.name(e.vertex)] = true
			}
			want := map[string]bool{}
			for _, step := range c.frontier {
				want[step] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
