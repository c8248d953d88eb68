package merge

import (
	"slices"

	"github.com/opencontainers/go-digest"
)

// member is a record of one lineage. Members are numbered lineage by lineage
// in preference order, in each lineage sources before dependants.
type member struct {
	*record
	lineage int
	base    int // number of the lineage's first member
}

// unify partitions the members into the records that BuildKit would make of
// them on import: members are one if their digests are equal and they share,
// at every input, a link to one source with one selector; what is one then
// has the links of all (CacheChains.Add in cache/remotecache/v1/chains.go).
// BuildKit goes through the records once, so what it unifies depends on their
// order; this is the least fixpoint, which does not, and which leaves nothing
// to unify on import. It returns the record each member belongs to; records
// are numbered by their first member.
//
// It is a congruence closure with a worklist: near-linear for what BuildKit
// exports, where few records share an input's link. Records made to be slow are
// given up, as false, after so many comparisons.
func unify(members []member, comparisons int) ([]int, bool) {
	u := &unifier{
		left:    comparisons,
		parent:  make([]int, len(members)),
		weight:  make([]int, len(members)),
		op:      make([]int, len(members)),
		links:   make([][][]link, len(members)),
		uses:    make([][]use, len(members)),
		has:     make(map[incidence]struct{}, len(members)),
		holders: make(map[place][]int, len(members)),
	}
	type operation struct {
		digest digest.Digest
		inputs int
	}
	ops := map[operation]int{}
	roots := map[int]int{} // operation without inputs: the member that stands for it
	for i, m := range members {
		op := operation{m.digest, len(m.inputs)}
		if _, ok := ops[op]; !ok {
			ops[op] = len(ops)
		}
		u.parent[i], u.op[i] = i, ops[op]
		if len(m.inputs) == 0 {
			if root, ok := roots[u.op[i]]; ok {
				u.union(i, root)
			} else {
				roots[u.op[i]] = i
			}
			continue
		}
		u.links[i] = make([][]link, len(m.inputs))
		for input, links := range m.inputs {
			for _, l := range links {
				source := u.find(m.base + l.source)
				u.uses[source] = append(u.uses[source], use{i, input, l.selector})
				u.weight[source]++
				u.addLink(i, input, link{source, l.selector})
			}
		}
		u.queue = append(u.queue, i)
		if !u.settle() {
			return nil, false
		}
	}
	return u.numbered(), true
}

// maxComparisons is a few seconds' work. The caches of builds take less than
// ten a record.
const maxComparisons = 50_000_000

// unifier is a union-find whose sets, called records, know their links. A
// link's source may be a member that no longer stands for its record: links
// are added under the new name and kept under the old.
type unifier struct {
	left    int // comparisons
	parent  []int
	weight  []int // links and uses, so that the lighter set is moved
	op      []int // digest and number of inputs, interned
	links   [][][]link
	uses    [][]use
	has     map[incidence]struct{}
	holders map[place][]int
	queue   []int // records whose links changed
}

// use is a link seen from its source.
type use struct {
	record, input int
	selector      string
}

// incidence says that a record has a link at an input.
type incidence struct {
	record, input int
	link          link
}

// place is a link at an input of an operation; its holders are the records
// that have it.
type place struct {
	op, input int
	link      link
}

func (u *unifier) find(i int) int {
	for u.parent[i] != i {
		u.parent[i] = u.parent[u.parent[i]]
		i = u.parent[i]
	}
	return i
}

func (u *unifier) addLink(r, input int, l link) bool {
	key := incidence{r, input, l}
	if _, ok := u.has[key]; ok {
		return false
	}
	u.has[key] = struct{}{}
	u.links[r][input] = append(u.links[r][input], l)
	u.weight[r]++
	at := place{u.op[r], input, l}
	u.holders[at] = append(u.holders[at], r)
	return true
}

func (u *unifier) settle() bool {
	for len(u.queue) > 0 && u.left > 0 {
		r := u.find(u.queue[len(u.queue)-1])
		u.queue = u.queue[:len(u.queue)-1]
		for _, other := range u.matches(r) {
			u.union(r, other)
		}
	}
	return u.left > 0
}

// matches returns the records that share a link with r at every input. It
// looks at the holders of the input that has fewest: of records with one
// definition, few share a content key.
func (u *unifier) matches(r int) []int {
	rarest, fewest := 0, -1
	for input, links := range u.links[r] {
		holders := 0
		for _, l := range links {
			holders += len(u.holders[place{u.op[r], input, l}])
		}
		if fewest < 0 || holders < fewest {
			rarest, fewest = input, holders
		}
	}
	var found []int
	for _, l := range u.links[r][rarest] {
		others := u.recordsAt(place{u.op[r], rarest, l})
		u.left -= len(others)
		for _, other := range others {
			if other != r && u.shareAll(r, other) {
				found = append(found, other)
			}
		}
	}
	return found
}

func (u *unifier) recordsAt(at place) []int {
	holders := u.holders[at]
	for i, r := range holders {
		holders[i] = u.find(r)
	}
	slices.Sort(holders)
	holders = slices.Compact(holders)
	u.holders[at] = holders
	return holders
}

func (u *unifier) shareAll(a, b int) bool {
	for input := range u.links[a] {
		few, other := u.links[a][input], b
		if len(u.links[b][input]) < len(few) {
			few, other = u.links[b][input], a
		}
		if !slices.ContainsFunc(few, func(l link) bool {
			_, ok := u.has[incidence{other, input, l}]
			return ok
		}) {
			return false
		}
	}
	return true
}

func (u *unifier) union(a, b int) {
	a, b = u.find(a), u.find(b)
	if a == b {
		return
	}
	if u.weight[a] > u.weight[b] {
		a, b = b, a
	}
	u.parent[a] = b
	for input, links := range u.links[a] {
		for _, l := range links {
			u.addLink(b, input, l)
		}
	}
	for _, in := range u.uses[a] {
		dependant := u.find(in.record)
		if u.addLink(dependant, in.input, link{b, in.selector}) {
			u.queue = append(u.queue, dependant)
		}
	}
	u.uses[b] = append(u.uses[b], u.uses[a]...)
	u.weight[b] += len(u.uses[a])
	u.links[a], u.uses[a] = nil, nil
	if len(u.links[b]) > 0 {
		u.queue = append(u.queue, b)
	}
}

// numbered returns the record of each member.
func (u *unifier) numbered() []int {
	number := map[int]int{}
	of := make([]int, len(u.parent))
	for i := range of {
		r := u.find(i)
		if _, ok := number[r]; !ok {
			number[r] = len(number)
		}
		of[i] = number[r]
	}
	return of
}
