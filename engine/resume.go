package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// Resume is the build that a snapshot was taken of, as if it had just ended:
// what it completed can be exported if the engine still holds it. Nothing
// runs; what would have to is ErrLost. The request is that of the build.
func (e *Engine) Resume(r Request, s Snapshot) (Build, error) {
	// No step runs that would ask for them, and their files may be gone.
	r.Options.Secrets, r.Options.Values, r.Options.Ask, r.Options.SSH = nil, nil, nil, nil
	switch {
	case !e.BuildKit:
		return e.resumeClassic(r, s), nil
	case !e.RegistryCache && e.docker != nil:
		return started(e.resumeInline(r, s))
	default:
		return started(e.resumeSolve(r, s))
	}
}

func (e *Engine) resumeSolve(r Request, s Snapshot) (*solveBuild, error) {
	graphs, vertices, err := s.renewed()
	if err != nil {
		return nil, fmt.Errorf("resume build: %w", err)
	}
	b, err := e.newSolve(r)
	if err != nil {
		return nil, err
	}
	for i := range graphs {
		graphs[i].steps = b.stepVertices(graphs[i].graph)
		graphs[i].mounts = mountUses(graphs[i].graph, r.File)
	}
	b.graphs, b.resumed = graphs, true
	b.tracker.restore(vertices, s.Names, s.Ran)
	b.outcome = s.outcome()
	b.stop = func() {}
	close(b.planned)
	close(b.evaluated)
	close(b.finished)
	return b, nil
}

// outcome is how the build ended; one that was killed was as good as canceled.
func (s Snapshot) outcome() Outcome {
	return Outcome{Result: cmp.Or(s.Result, BuildCanceled)}
}

// renewed are the graphs and vertices of a snapshot for a new session. Local
// directories are bound to a session: of one that has ended, the daemon still
// finds the steps that copied from it, but exports no result of theirs, since
// it takes the directory for something that nobody can name again. So they
// are read anew, which finds the same steps by content, and every op above
// them has another digest.
func (s Snapshot) renewed() ([]platformGraph, []VertexSnapshot, error) {
	var graphs []platformGraph
	renamed := map[digest.Digest]digest.Digest{}
	for _, p := range s.Platforms {
		var definition pb.Definition
		if err := definition.UnmarshalVT(p.Definition); err != nil {
			return nil, nil, fmt.Errorf("read build definition: %w", err)
		}
		if err := renewSessions(&definition, renamed); err != nil {
			return nil, nil, err
		}
		g, err := newGraph(&definition)
		if err != nil {
			return nil, nil, err
		}
		ends := map[int]edge{}
		for _, end := range p.Ends {
			ends[end.Stage] = edge{renamed[end.Vertex], end.Output}
		}
		graphs = append(graphs, platformGraph{id: p.ID, platform: p.Platform, graph: g, ends: ends})
	}
	vertices := slices.Clone(s.Vertices)
	for i := range vertices {
		if to, ok := renamed[vertices[i].Digest]; ok {
			vertices[i].Digest = to
		}
	}
	return graphs, vertices, nil
}

// renewSessions unbinds a definition from the session it was made in, and
// notes the new digest of each of its ops.
func renewSessions(definition *pb.Definition, renamed map[digest.Digest]digest.Digest) error {
	for i, raw := range definition.Def { // inputs come before their users
		var op pb.Op
		if err := op.UnmarshalVT(raw); err != nil {
			return fmt.Errorf("read build definition: %w", err)
		}
		changed := false
		if source := op.GetSource(); source != nil && source.Attrs[pb.AttrLocalSessionID] != "" {
			delete(source.Attrs, pb.AttrLocalSessionID)
			changed = true
		}
		for _, in := range op.Inputs {
			to, ok := renamed[digest.Digest(in.Digest)]
			if !ok {
				return errors.New("read build definition: an input is missing")
			}
			changed = changed || string(to) != in.Digest
			in.Digest = string(to)
		}
		if changed {
			var err error
			if definition.Def[i], err = op.MarshalVT(); err != nil {
				return fmt.Errorf("write build definition: %w", err)
			}
		}
		renamed[digest.FromBytes(raw)] = digest.FromBytes(definition.Def[i])
	}
	definition.Metadata = renameKeys(definition.Metadata, renamed)
	if definition.Source != nil {
		definition.Source.Locations = renameKeys(definition.Source.Locations, renamed)
	}
	return nil
}

func renameKeys[V any](by map[string]V, renamed map[digest.Digest]digest.Digest) map[string]V {
	result := make(map[string]V, len(by))
	for key, value := range by {
		if to, ok := renamed[digest.Digest(key)]; ok {
			key = string(to)
		}
		result[key] = value
	}
	return result
}

// guard returns what watches the status stream of an export of a resumed
// build, and ends the export before a step runs again. A daemon that has not
// noticed yet that the build's process is gone tells of that run once more.
func (b *solveBuild) guard(ctx context.Context) (context.Context, func(*bkclient.SolveStatus)) {
	if !b.resumed {
		return ctx, func(*bkclient.SolveStatus) {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, func(status *bkclient.SolveStatus) {
		for _, v := range status.Vertexes {
			for _, g := range b.graphs {
				if v.Started != nil && !v.Cached && g.graph.ops[v.Digest] != nil && !g.graph.fetched(v.Digest) && !b.tracker.ranAt(v.Digest, *v.Started) {
					cancel(&lostError{v.Digest, v.Name})
				}
			}
		}
	}
}

// lostError is ErrLost with the vertex that would have run.
type lostError struct {
	vertex digest.Digest
	name   string // as the frontend calls it
}

func (e *lostError) Error() string { return ErrLost.Error() + ": " + e.name }
func (e *lostError) Unwrap() error { return ErrLost }

// forget takes those parts of an export for incomplete for which a lost vertex
// would have had to run. It tells whether there were any.
func (b *solveBuild) forget(err error, parts []part) bool {
	var lost *lostError
	if !errors.As(err, &lost) {
		return false
	}
	forgotten := false
	for _, p := range parts {
		p.graph.walk(p.edge, func(e edge) bool {
			if e.vertex == lost.vertex {
				b.tracker.forget(p.edge.vertex, p.graph.name(p.edge.vertex))
				forgotten = true
			}
			return true
		})
	}
	return forgotten
}
