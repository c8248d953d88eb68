package merge

import (
	"cmp"
	"slices"
)

// cutLoops removes links that close a loop, which unifying records at
// different depths can make. Of the records that a loop reaches, links among
// each other stay only if the record's first member has them: members are
// numbered sources first, so following first members never comes back. The
// choice depends on the first members alone, so merging the outcome once more
// with its lineages changes nothing.
func (m *merging) cutLoops(entries []entry) {
	order := topological(len(entries), eachSource(entries))
	if len(order) == len(entries) {
		return
	}
	inLoop := make([]bool, len(entries))
	for i := range inLoop {
		inLoop[i] = true
	}
	for _, i := range order {
		inLoop[i] = false
	}
	for i := range entries {
		for input, links := range entries[i].inputs {
			first := sortedLinks(m.links(nil, m.byEntry[i][0], input))
			kept := slices.DeleteFunc(slices.Clone(links), func(l link) bool {
				return inLoop[i] && inLoop[l.source] && !containsLink(first, l)
			})
			m.stats.DroppedLinks += len(links) - len(kept)
			entries[i].inputs[input] = kept
		}
	}
}

func eachSource(entries []entry) func(i int, yield func(source int)) {
	return func(i int, yield func(source int)) {
		for _, links := range entries[i].inputs {
			for _, l := range links {
				yield(l.source)
			}
		}
	}
}

// dropIncomplete removes entries without a link left at some input, and links
// to them.
func (m *merging) dropIncomplete(entries []entry) []entry {
	complete := make([]bool, len(entries))
	for _, i := range topological(len(entries), eachSource(entries)) {
		complete[i] = true
		for input, links := range entries[i].inputs {
			kept := slices.DeleteFunc(slices.Clone(links), func(l link) bool { return !complete[l.source] })
			m.stats.DroppedLinks += len(links) - len(kept)
			entries[i].inputs[input] = kept
			complete[i] = complete[i] && len(kept) > 0
		}
	}
	kept := subset(entries, complete)
	m.stats.DroppedRecords = len(entries) - len(kept)
	return kept
}

// subset returns the entries to keep, renumbered. Their sources must be kept.
func subset(entries []entry, keep []bool) []entry {
	at := make([]int, len(entries))
	var kept []entry
	for i, e := range entries {
		if keep[i] {
			at[i] = len(kept)
			kept = append(kept, e)
		}
	}
	for i := range kept {
		kept[i].inputs = renumbered(kept[i].inputs, at)
	}
	return kept
}

func renumbered(inputs [][]link, at []int) [][]link {
	to := make([][]link, len(inputs))
	for input, links := range inputs {
		to[input] = make([]link, len(links))
		for j, l := range links {
			to[input][j] = link{source: at[l.source], selector: l.selector}
		}
		slices.SortFunc(to[input], compareLinks)
	}
	return to
}

// canonical orders entries by their keys alone, sources first, so that equal
// graphs get equal bytes wherever their records came from: by depth, then
// digest, then links. The graph must be free of loops.
func canonical(entries []entry) []entry {
	depth := make([]int, len(entries))
	order := topological(len(entries), eachSource(entries))
	for _, i := range order {
		eachSource(entries)(i, func(s int) { depth[i] = max(depth[i], depth[s]+1) })
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(depth[a], depth[b]), cmp.Compare(a, b)) })
	at := make([]int, len(entries))
	sorted := make([]entry, 0, len(entries))
	for len(order) > 0 {
		end := 1
		for end < len(order) && depth[order[end]] == depth[order[0]] {
			end++
		}
		level := order[:end]
		order = order[end:]
		for _, i := range level {
			entries[i].inputs = renumbered(entries[i].inputs, at)
		}
		slices.SortStableFunc(level, func(a, b int) int { return compareKeys(&entries[a], &entries[b]) })
		for _, i := range level {
			at[i] = len(sorted)
			sorted = append(sorted, entries[i])
		}
	}
	return sorted
}

func compareKeys(a, b *entry) int {
	return cmp.Or(
		cmp.Compare(a.digest, b.digest),
		slices.CompareFunc(a.inputs, b.inputs, func(x, y []link) int { return slices.CompareFunc(x, y, compareLinks) }),
	)
}
