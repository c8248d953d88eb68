package engine

import "slices"

// part is one edge of the build to export, with the graph it belongs to.
type part struct {
	graph *graph
	edge  edge
}

// complete is what there is to export of some stages and of what they need, of
// all without any: the leaves after a successful build, else the frontier.
func (b *solveBuild) complete(stages []int) []part {
	select {
	case <-b.planned:
	default:
		return nil
	}
	if len(stages) == 0 {
		stages = b.request.Stages
	}
	var parts []part
	for _, g := range b.graphs {
		var edges []edge
		if !b.succeeded() {
			edges = b.frontier(g, stages)
		} else {
			for _, stage := range b.request.File.Leaves(stages) {
				if end, ok := g.ends[stage]; ok && !g.graph.fetched(end.vertex) {
					edges = append(edges, end)
				}
			}
		}
		for _, e := range edges {
			parts = append(parts, part{g.graph, e})
		}
	}
	return parts
}

// imageChain is, for each platform, the topmost completed edge of which the
// layers are layers of the target's image.
func (b *solveBuild) imageChain() []part {
	var parts []part
	for _, g := range b.graphs {
		end, ok := g.ends[b.request.Target]
		if !ok {
			continue
		}
		g.graph.walkLayers(end, func(e edge) bool {
			if g.graph.fetched(e.vertex) {
				return false
			}
			if b.tracker.completed(g.graph, e.vertex) {
				parts = append(parts, part{g.graph, e})
				return false
			}
			return true
		})
	}
	return parts
}

// frontier is the topmost completed edges of some stages, leaving out those that lie
// below another, which an export of the upper one covers. Base images and
// contexts are no work and are not exported alone.
func (b *solveBuild) frontier(g platformGraph, stages []int) []edge {
	var found []edge
	index := map[edge]bool{}
	for _, stage := range stages {
		end, ok := g.ends[stage]
		if !ok {
			continue
		}
		g.graph.walk(end, func(e edge) bool {
			if !g.graph.fetched(e.vertex) && b.tracker.completed(g.graph, e.vertex) {
				if !index[e] {
					index[e] = true
					found = append(found, e)
				}
				return false
			}
			return true
		})
	}
	return slices.DeleteFunc(found, func(e edge) bool {
		below := false
		for _, upper := range found {
			if upper != e && index[upper] {
				g.graph.walk(upper, func(lower edge) bool {
					below = below || lower == e
					return !below
				})
			}
		}
		if below {
			delete(index, e)
		}
		return below
	})
}

func (b *solveBuild) succeeded() bool { return b.ended() && b.outcome.Result == OK }

// stageComplete tells whether a stage has a result on every platform.
func (b *solveBuild) stageComplete(stage int) bool {
	if b.succeeded() {
		return true
	}
	for _, g := range b.graphs {
		end, ok := g.ends[stage]
		if !ok || g.graph.fetched(end.vertex) {
			continue
		}
		if !b.tracker.completed(g.graph, end.vertex) {
			return false
		}
	}
	return true
}
