package merge

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// entry is a record of the merged cache.
type entry struct {
	digest    digest.Digest
	inputs    [][]link // sorted; sources are entries
	chain     int      // of the result; none without one
	createdAt time.Time
	lineage   int // the owner: whose result it is

	rank int // of the most relevant lineage with a result, see Options.Keep
}

// merging is the state of one Merge.
type merging struct {
	table   *chainTable
	chainAt [][]int // per lineage and layer
	members []member
	of      []int   // per member, its record
	byEntry [][]int // per record, its members, ascending
	rank    []int   // per lineage
	stats   Stats
}

// entries decides for each record who owns it, and with that its result and
// its links (rules 2 and 3 of the package comment).
func (m *merging) entries() []entry {
	entries := make([]entry, len(m.byEntry))
	for i := range entries {
		entries[i] = m.entry(m.byEntry[i])
	}
	return entries
}

func (m *merging) entry(members []int) entry {
	e := m.result(members)
	var owners, losers []int
	for _, n := range members {
		switch {
		case m.vouches(n, &e):
			owners = append(owners, n)
		default:
			losers = append(losers, n)
			if len(m.usable(n)) > 0 {
				m.stats.Conflicts++
			}
		}
	}
	e.inputs = make([][]link, len(m.members[members[0]].inputs))
	for input := range e.inputs {
		e.inputs[input] = m.admit(owners, losers, input)
	}
	return e
}

// result starts an entry with the result it keeps and its owner.
func (m *merging) result(members []int) entry {
	first := m.members[members[0]]
	e := entry{digest: first.digest, chain: none, lineage: first.lineage, rank: len(m.rank)}
	for _, n := range members {
		lineage := m.members[n].lineage
		for _, r := range m.usable(n) {
			e.rank = min(e.rank, m.rank[lineage])
			if e.chain == none || lineage == e.lineage && m.newer(r, lineage, &e) {
				e.chain, e.createdAt, e.lineage = m.chainAt[lineage][r.layer], r.createdAt, lineage
			}
		}
	}
	return e
}

func (m *merging) newer(r result, lineage int, than *entry) bool {
	return cmp.Or(r.createdAt.Compare(than.createdAt), m.table.compare(m.chainAt[lineage][r.layer], than.chain)) > 0
}

// usable returns the member's results whose blobs are all there.
func (m *merging) usable(n int) []result {
	all := m.members[n].results
	chainAt := m.chainAt[m.members[n].lineage]
	isDead := func(r result) bool { return chainAt[r.layer] == none }
	if !slices.ContainsFunc(all, isDead) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), isDead)
}

// vouches tells whether what the member's inputs held led to the entry's
// result. Without any result, the first lineage's members count: their
// dependants were built on them.
func (m *merging) vouches(n int, e *entry) bool {
	if e.chain == none {
		return m.members[n].lineage == e.lineage
	}
	chainAt := m.chainAt[m.members[n].lineage]
	return slices.ContainsFunc(m.members[n].results, func(r result) bool { return chainAt[r.layer] == e.chain })
}

// admit returns the links of an input: all of the owners' and, of losers
// whose content keys the owners have too, the definition links.
func (m *merging) admit(owners, losers []int, input int) []link {
	var admitted []link
	for _, n := range owners {
		admitted = m.links(admitted, n, input)
	}
	admitted = sortedLinks(admitted)
	owned := admitted[:len(admitted):len(admitted)]
	isOwned := func(l link) bool { return containsLink(owned, l) }
	for _, n := range losers {
		theirs := sortedLinks(m.links(nil, n, input))
		added := slices.DeleteFunc(slices.Clone(theirs), isOwned)
		if slices.ContainsFunc(added, m.isContentKey) {
			m.stats.DroppedLinks += len(added)
			continue
		}
		admitted = append(admitted, added...)
	}
	return sortedLinks(admitted)
}

// links appends those of a member, with sources as entries.
func (m *merging) links(to []link, n, input int) []link {
	for _, l := range m.members[n].inputs[input] {
		to = append(to, link{source: m.of[m.members[n].base+l.source], selector: l.selector})
	}
	return to
}

// isContentKey tells whether the link's source may be the digest of an
// input's content. Whether it carries a result does not count: any root may
// get one from another lineage.
func (m *merging) isContentKey(l link) bool {
	root := m.members[m.byEntry[l.source][0]]
	return l.selector == "" && len(root.inputs) == 0
}

func compareLinks(a, b link) int {
	return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.selector, b.selector))
}

func sortedLinks(links []link) []link {
	slices.SortFunc(links, compareLinks)
	return slices.Compact(links)
}

func containsLink(sorted []link, l link) bool {
	_, ok := slices.BinarySearchFunc(sorted, l, compareLinks)
	return ok
}
