package merge

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// importLimit is the size in bytes above which BuildKit's importer refuses a
// document (readBlob in cache/remotecache/import.go).
const importLimit = 1 << 20

// ErrEmpty is returned by Merge if no lineage has a result that can be used:
// there is nothing to import.
var ErrEmpty = errors.New("no usable result in any cache")

// ErrTangled is returned by Merge for records that were made to be slow to
// unite.
var ErrTangled = errors.New("the records have too much in common to be united")

// Options of Merge. The zero value is fine.
type Options struct {
	// Missing are blobs known to be gone from the registry.
	Missing map[digest.Digest]bool
	// Keep says whose results to keep when not all fit in what BuildKit
	// imports: indexes of lineages, the most relevant first; those left out
	// follow in their order. What the next build can reach is not known
	// without the engine, for record digests are computed from its own
	// encoding of operations. What the same branch's last build exported is
	// what it reached, so that lineage belongs first, even where another one
	// owns the records. A lineage is trimmed only when the less relevant are
	// gone but for what it shares with them; within it the oldest results go
	// first, and never before what was built on them.
	Keep []int
	// Newest keeps the newest results first when not all fit, whosever they
	// are; Keep is not asked.
	Newest bool
}

// Merged is one cache made of several.
type Merged struct {
	// Digest of Manifest: what to import, with Config pushed beside it.
	Digest           digest.Digest
	Manifest         []byte
	Config           []byte
	ConfigDescriptor ocispec.Descriptor
	// Layers are the blobs that the manifest lists. All of them must exist
	// where it is pushed: merge again with those in Options.Missing that do
	// not.
	Layers []ocispec.Descriptor
	// Same is the index of the first lineage that already holds exactly this
	// cache, so that its own manifest can be imported and nothing need be
	// pushed; -1 if there is none.
	Same int
	// Sources tell for each result where it came from, in order of records.
	Sources []Source
	Stats   Stats
}

// Source tells which lineage owns a result.
type Source struct {
	Record  digest.Digest // the step's cache key
	Blob    digest.Digest // the topmost layer
	Lineage int           // index of the lineage
}

// Stats count what was merged and what was left out.
type Stats struct {
	Records int // of the merged cache
	Layers  int // of the merged cache

	Conflicts      int // results not taken because an earlier lineage has another for the same key
	DroppedResults int // whose blobs are missing or unlisted
	DroppedLinks   int // that disagree with a record's owner, or close a loop
	DroppedRecords int // without a link left at some input
	DroppedForSize int // records, see Options.Keep
}

// Merge unites lineages, in the order in which they own records. It returns
// ErrEmpty if no result is left, ErrTangled for what no build exports, and no
// other error for lineages that were read by this package and valid options.
//
// Without trimming, merging is idempotent: a lineage merged with itself, or a
// merged cache with the lineages it is made of, is the same cache.
func Merge(lineages []*Lineage, opts Options) (*Merged, error) {
	return merge(lineages, opts, importLimit)
}

func merge(lineages []*Lineage, opts Options, limit int) (*Merged, error) {
	rank, err := ranks(len(lineages), opts.Keep)
	if opts.Newest {
		clear(rank)
	}
	if err != nil {
		return nil, fmt.Errorf("merge %d caches: %w", len(lineages), err)
	}
	m, err := newMerging(lineages, opts.Missing, rank)
	if err != nil {
		return nil, fmt.Errorf("merge %d caches: %w", len(lineages), err)
	}
	entries := m.entries()
	m.cutLoops(entries)
	entries = canonical(m.dropIncomplete(entries))
	merged, err := m.encode(entries)
	if err == nil && max(len(merged.Config), len(merged.Manifest)) > limit {
		entries, err = m.trim(entries, limit)
		if err == nil {
			merged, err = m.encode(entries)
		}
	}
	if err == nil && len(merged.Sources) == 0 {
		err = ErrEmpty
	}
	if err != nil {
		return nil, fmt.Errorf("merge %d caches: %w", len(lineages), err)
	}
	merged.Same = m.same(lineages, entries)
	return merged, nil
}

// ranks returns the place of each lineage in the order of Options.Keep.
func ranks(n int, keep []int) ([]int, error) {
	rank := make([]int, n)
	for i := range rank {
		rank[i] = none
	}
	for place, i := range keep {
		if i < 0 || i >= n || rank[i] != none {
			return nil, fmt.Errorf("lineages to keep %v: %d out of range or repeated", keep, i)
		}
		rank[i] = place
	}
	next := len(keep)
	for i := range rank {
		if rank[i] == none {
			rank[i] = next
			next++
		}
	}
	return rank, nil
}

func newMerging(lineages []*Lineage, missing map[digest.Digest]bool, rank []int) (*merging, error) {
	m := &merging{
		table: &chainTable{ids: map[chain]int{}, descriptors: map[digest.Digest]ocispec.Descriptor{}},
		rank:  rank,
	}
	for i, l := range lineages {
		chainAt := m.table.add(l, missing)
		m.chainAt = append(m.chainAt, chainAt)
		base := len(m.members)
		for r := range l.records {
			m.members = append(m.members, member{record: &l.records[r], lineage: i, base: base})
			for _, result := range l.records[r].results {
				if chainAt[result.layer] == none {
					m.stats.DroppedResults++
				}
			}
		}
	}
	var ok bool
	if m.of, ok = unify(m.members, maxComparisons); !ok {
		return nil, ErrTangled
	}
	for n, r := range m.of {
		if r == len(m.byEntry) {
			m.byEntry = append(m.byEntry, nil)
		}
		m.byEntry[r] = append(m.byEntry[r], n)
	}
	return m, nil
}

// same returns the first lineage whose own records are those given, in any
// order, and which BuildKit can import by itself.
func (m *merging) same(lineages []*Lineage, entries []entry) int {
	for i, l := range lineages {
		if !l.importable || len(l.records) != len(entries) {
			continue
		}
		own, ok := asEntries(l, m.chainAt[i])
		if ok && equalEntries(canonical(own), entries) {
			return i
		}
	}
	return none
}

// asEntries returns a lineage's records as they are, and false if some result
// would not be in a merged cache.
func asEntries(l *Lineage, chainAt []int) ([]entry, bool) {
	entries := make([]entry, len(l.records))
	for i, r := range l.records {
		entries[i] = entry{digest: r.digest, inputs: r.inputs, chain: none}
		if len(r.results) > 1 {
			return nil, false
		}
		if len(r.results) == 1 {
			entries[i].chain, entries[i].createdAt = chainAt[r.results[0].layer], r.results[0].createdAt
			if entries[i].chain == none {
				return nil, false
			}
		}
	}
	return entries, true
}

func equalEntries(a, b []entry) bool {
	for i := range a {
		if compareKeys(&a[i], &b[i]) != 0 || a[i].chain != b[i].chain || !a[i].createdAt.Equal(b[i].createdAt) {
			return false
		}
	}
	return true
}
