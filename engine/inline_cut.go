package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
)

// lookBefore tells by mountsNeeded whether what a stage's steps with
// unrestored mounts run on has to be run, and so will they: by a solve up to
// each of them. The status stream tells of a step that runs when that and the
// next may long have ended, so that giving up the stage's own solve would be
// too late. What the looks have run stays in the engine; one in which all are
// hits fetches no layer.
func (b *inlineBuild) lookBefore(ctx context.Context, state *stageState, s *stageSolve) error {
	for _, line := range b.looks(s) {
		look := &stageSolve{stage: s.stage, before: line, yields: s.yields, verdictOnly: true, unrestored: s.unrestored}
		if err := b.buildOnce(ctx, state, look); err != nil {
			return err
		}
	}
	return nil
}

// looks are the lines of a stage before which to look. A step that stands
// right after one that is looked at says nothing more: if it runs, the other
// one is the first that did.
func (b *inlineBuild) looks(s *stageSolve) []int {
	if o := b.request.Options; o.NoCache || len(o.NoCacheFilter) > 0 {
		return nil // what a look has run would be run again
	}
	stage := b.request.File.Stages[s.stage]
	var lines []int
	between := stage.From >= 0 && b.hasSteps(stage.From) // steps since the last look
	for _, in := range stage.Instructions {
		if !in.Step() {
			continue
		}
		unrestored := slices.ContainsFunc(in.CacheMounts, func(m stages.CacheMount) bool { return s.unrestored[m.Key()] })
		if unrestored && between {
			lines = append(lines, in.Lines.First)
		}
		between = !unrestored
	}
	return lines
}

// cut is what the step at a line runs on, as a definition of its own; false if
// that is nothing.
func (g *graph) cut(line int) (*graph, bool, error) {
	for _, vertex := range g.order {
		exec := g.ops[vertex].GetExec()
		if exec == nil || !slices.Contains(g.lines(vertex, dockerfileName), line) {
			continue
		}
		for _, mount := range exec.Mounts {
			if mount.Dest == pb.RootMount && mount.Input >= 0 {
				cut, err := newGraph(g.sub(inputEdge(g.ops[vertex].Inputs[mount.Input])))
				return cut, err == nil, err
			}
		}
	}
	return nil, false, nil
}

// solveCut puts the solve of a cut definition in the place of the one that the
// frontend has made.
func (b *inlineBuild) solveCut(ctx context.Context, s *stageSolve, gw client.Client, g *graph) (*client.Result, error) {
	var imports []client.CacheOptionsEntry
	for _, spec := range b.importsOf(s.stage) {
		imports = append(imports, client.CacheOptionsEntry{Type: spec.Type, Attrs: spec.Attributes})
	}
	result, err := gw.Solve(ctx, client.SolveRequest{Definition: g.definition, CacheImports: imports})
	if err != nil {
		return nil, fmt.Errorf("solve what a step runs on: %w", err)
	}
	return result, nil
}
