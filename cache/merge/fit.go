package merge

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// trim keeps of the entries (canonical) as many as let neither document grow
// larger than the limit, in bytes.
//
// An entry counts as relevant and as recent as the best result that depends
// on it, so keeping the most relevant, then the most recent, keeps what their
// keys need: of each lineage the steps that nothing is built on and that are
// oldest go first, and keys that lead to no result before all.
func (m *merging) trim(entries []entry, limit int) ([]entry, error) {
	keep := make([]bool, len(entries))
	size := newSizes(m.table)
	for _, i := range byRelevance(entries) {
		if err := size.add(&entries[i]); err != nil {
			return nil, err
		}
		if max(size.config, size.manifest) > limit {
			break
		}
		keep[i] = true
	}
	kept := subset(entries, keep)
	m.stats.DroppedForSize = len(entries) - len(kept)
	return kept, nil
}

// byRelevance orders entries so that each comes after its sources, whatever
// the place it is cut at.
func byRelevance(entries []entry) []int {
	type relevance struct {
		rank int
		at   time.Time
	}
	best := make([]relevance, len(entries))
	compare := func(a, b relevance) int { return cmp.Or(cmp.Compare(a.rank, b.rank), b.at.Compare(a.at)) }
	order := make([]int, len(entries))
	for i, e := range entries {
		order[i] = i
		best[i] = relevance{rank: e.rank, at: e.createdAt}
	}
	for i := len(entries) - 1; i >= 0; i-- { // dependants first
		eachSource(entries)(i, func(s int) {
			if compare(best[i], best[s]) < 0 {
				best[s] = best[i]
			}
		})
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(compare(best[a], best[b]), cmp.Compare(a, b)) })
	return order
}

// sizes are upper bounds of the documents' sizes in bytes: links count with
// the indexes they have before trimming, and layers with as many digits as
// any index can have.
type sizes struct {
	table            *chainTable
	digits           int
	chains           map[int]bool
	blobs            map[digest.Digest]bool
	config, manifest int
}

func newSizes(table *chainTable) *sizes {
	return &sizes{
		table:  table,
		digits: len(fmt.Sprint(len(table.chains))),
		chains: map[int]bool{},
		blobs:  map[digest.Digest]bool{},
		// Brackets, names of fields and the descriptor of the config.
		config: 64, manifest: 512,
	}
}

func (s *sizes) add(e *entry) error {
	raw, err := json.Marshal(encodeRecord(e, 0))
	if err != nil {
		return fmt.Errorf("encode record %s: %w", e.digest, err)
	}
	s.config += len(raw) + len(",") + s.digits
	for c := e.chain; c != none && !s.chains[c]; c = s.table.chains[c].parent {
		s.chains[c] = true
		blob := s.table.chains[c].blob
		s.config += len(`{"blob":"","parent":},`) + len(blob) + s.digits
		if s.blobs[blob] {
			continue
		}
		s.blobs[blob] = true
		raw, err := json.Marshal(s.table.descriptors[blob])
		if err != nil {
			return fmt.Errorf("encode descriptor of %s: %w", blob, err)
		}
		s.manifest += len(raw) + len(",")
	}
	return nil
}
