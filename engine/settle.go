package engine

import "time"

// settle waits, for at most streamLag, until the status stream has told of
// everything that was evaluated: it trails the answer to an evaluation, and a
// step that ran would be taken for one that nothing asked for. The end of a
// leaf is told last; a vertex that another build runs may never be told.
func (b *solveBuild) settle() {
	limit := time.After(streamLag)
	for {
		changed := b.tracker.wait()
		if b.leavesTold() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			return
		}
	}
}

func (b *solveBuild) leavesTold() bool {
	for _, g := range b.graphs {
		for _, stage := range b.request.File.Leaves(b.request.Stages) {
			end, ok := g.ends[stage]
			if ok && !g.graph.fetched(end.vertex) && !b.tracker.completed(g.graph, end.vertex) {
				return false
			}
		}
	}
	return true
}
