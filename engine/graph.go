package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// edge is one output of one vertex, the unit that BuildKit solves.
type edge struct {
	vertex digest.Digest
	output int64
}

func inputEdge(in *pb.Input) edge { return edge{digest.Digest(in.Digest), in.Index} }

// graph is an LLB definition that can be walked and cut. Ops are kept as the
// bytes they came in: a sub-definition made of the same bytes names the same
// vertices in the daemon, so solving it joins or reuses what the main build
// does instead of repeating it.
type graph struct {
	definition *pb.Definition
	ops        map[digest.Digest]*pb.Op
	raw        map[digest.Digest][]byte
	users      map[digest.Digest][]digest.Digest
	order      []digest.Digest // inputs before their users, as marshalled
	root       edge
}

// graphOf reads the definition behind a solved but not yet evaluated ref. A
// ref without one (scratch) gives a graph without a root.
func graphOf(ctx context.Context, ref client.Reference) (*graph, error) {
	if ref == nil {
		return newGraph(&pb.Definition{})
	}
	state, err := ref.ToState()
	if err != nil {
		return nil, fmt.Errorf("read build definition: %w", err)
	}
	llbDef, err := state.Marshal(ctx)
	if err != nil {
		return nil, fmt.Errorf("read build definition: %w", err)
	}
	return newGraph(llbDef.ToPB())
}

func newGraph(definition *pb.Definition) (*graph, error) {
	g := &graph{
		definition: definition, ops: map[digest.Digest]*pb.Op{}, raw: map[digest.Digest][]byte{}, users: map[digest.Digest][]digest.Digest{},
	}
	for _, raw := range g.definition.Def {
		var op pb.Op
		if err := op.UnmarshalVT(raw); err != nil {
			return nil, fmt.Errorf("read build definition: %w", err)
		}
		if op.Op == nil { // the last op only names the root
			if len(op.Inputs) > 0 {
				g.root = inputEdge(op.Inputs[0])
			}
			continue
		}
		vertex := digest.FromBytes(raw)
		g.ops[vertex], g.raw[vertex] = &op, raw
		for _, in := range op.Inputs {
			g.users[digest.Digest(in.Digest)] = append(g.users[digest.Digest(in.Digest)], vertex)
		}
		g.order = append(g.order, vertex)
	}
	return g, nil
}

// name is what the frontend called a vertex, such as
// "[builder 2/5] RUN make".
func (g *graph) name(vertex digest.Digest) string {
	return g.definition.Metadata[string(vertex)].GetDescription()["llb.customname"]
}

// fetched tells whether a vertex only brings something in: a base image, the
// context, a URL. It is no step of the build and is never exported alone.
func (g *graph) fetched(vertex digest.Digest) bool {
	return g.ops[vertex].GetSource() != nil
}

// walk visits e and what lies below it, once each, going below an edge only
// where visit says so.
func (g *graph) walk(e edge, visit func(edge) bool) { g.walkAlong(e, g.inputs, visit) }

// walkLayers visits e and those edges below it whose layers are layers of e's
// image too, as walk does: what a step runs on, but not what it mounts or
// copies from.
func (g *graph) walkLayers(e edge, visit func(edge) bool) { g.walkAlong(e, g.parents, visit) }

func (g *graph) walkAlong(e edge, below func(edge) []edge, visit func(edge) bool) {
	seen := map[edge]bool{}
	pending := []edge{e}
	for len(pending) > 0 {
		e := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if seen[e] || g.ops[e.vertex] == nil {
			continue
		}
		seen[e] = true
		if visit(e) {
			pending = append(pending, below(e)...)
		}
	}
}

func (g *graph) inputs(e edge) []edge {
	var inputs []edge
	for _, in := range g.ops[e.vertex].Inputs {
		inputs = append(inputs, inputEdge(in))
	}
	return inputs
}

// parents are the edges that e adds its own layers to.
func (g *graph) parents(e edge) []edge {
	op := g.ops[e.vertex]
	var parents []edge
	add := func(input int64) {
		if input >= 0 && int(input) < len(op.Inputs) { // -1 is scratch, more is another action of the same op
			parents = append(parents, inputEdge(op.Inputs[input]))
		}
	}
	switch {
	case op.GetExec() != nil:
		for _, mount := range op.GetExec().Mounts {
			if mount.Output == e.output {
				add(mount.Input)
			}
		}
	case op.GetFile() != nil:
		for _, action := range op.GetFile().Actions {
			add(action.Input)
		}
	default: // merge and diff
		for input := range op.Inputs {
			add(int64(input))
		}
	}
	return parents
}

// sub is the definition of e alone.
func (g *graph) sub(e edge) *pb.Definition {
	needed := map[digest.Digest]bool{}
	g.walk(e, func(below edge) bool {
		needed[below.vertex] = true
		return true
	})
	def := &pb.Definition{Metadata: map[string]*pb.OpMetadata{}, Source: g.definition.Source}
	for _, vertex := range g.order {
		if needed[vertex] {
			def.Def = append(def.Def, g.raw[vertex])
			if meta := g.definition.Metadata[string(vertex)]; meta != nil {
				def.Metadata[string(vertex)] = meta
			}
		}
	}
	end := &pb.Op{Inputs: []*pb.Input{{Digest: string(e.vertex), Index: e.output}}}
	raw, _ := end.MarshalVT() // of a message without required fields: cannot fail
	def.Def = append(def.Def, raw)
	return def
}

// lines are the first lines of the Dockerfile instructions that made a
// vertex, ascending. Other source files (an included ONBUILD, a remote
// definition) are left out.
func (g *graph) lines(vertex digest.Digest, dockerfile string) []int {
	source := g.definition.GetSource()
	var lines []int
	for _, location := range source.GetLocations()[string(vertex)].GetLocations() {
		if int(location.SourceIndex) >= len(source.Infos) || source.Infos[location.SourceIndex].Filename != dockerfile {
			continue
		}
		for _, r := range location.Ranges {
			lines = append(lines, int(r.Start.Line))
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// unionEnds reads where each stage ends from the union stage that
// stages.File.WithUnion appends: a chain of copies on scratch, of which the
// one to /<stage>/ takes that stage's end as its secondary input. A stage that
// is scratch itself has no end and is left out.
func (g *graph) unionEnds() (map[int]edge, error) {
	ends := map[int]edge{}
	for e := g.root; ; {
		op := g.ops[e.vertex]
		if op == nil {
			return ends, nil
		}
		actions := op.GetFile().GetActions()
		if len(actions) == 0 {
			return nil, fmt.Errorf("read build definition: %q is no copy of the union stage", g.name(e.vertex))
		}
		next := edge{}
		for _, action := range actions {
			stage, err := strconv.Atoi(strings.Trim(action.GetCopy().GetDest(), "/"))
			if err != nil {
				return nil, fmt.Errorf("read build definition: copy to %q in the union stage", action.GetCopy().GetDest())
			}
			if in := int(action.SecondaryInput); in >= 0 && in < len(op.Inputs) {
				ends[stage] = inputEdge(op.Inputs[in])
			}
			if in := int(action.Input); in >= 0 && in < len(op.Inputs) {
				next = inputEdge(op.Inputs[in])
			}
		}
		e = next
	}
}
