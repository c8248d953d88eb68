package merge

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestUnify(t *testing.T) {
	sources := func(names ...string) *cache {
		c := &cache{}
		for _, n := range names {
			c.Source(op(n))
		}
		return c
	}
	// A record matches what others of its kind have in common, not only one
	// of them, for BuildKit adds up the links of what it unifies.
	addsUp := sources("x1", "x2", "y1", "y2")
	for _, inputs := range [][]links{
		{{from(1)}, {from(3)}},
		{{from(0)}, {from(2)}},
		{{from(0), from(1)}, {from(2)}},
		{{from(0)}, {from(2), from(3)}},
	} {
		addsUp.Result(addsUp.Step(op("merge"), inputs...), 1, "A")
	}
	// What follows from one record being another is seen after the fact.
	apart, bridge := sources("x", "y"), sources("x", "y")
	apart.Step(op("s"), links{from(1)})
	apart.Step(op("s"), links{from(0)})
	apart.Step(op("t"), links{from(2)})
	apart.Result(apart.Step(op("t"), links{from(3)}), 1, "A")
	bridge.Step(op("s"), links{from(0), from(1)})
	// And so it is when the record that others have joined joins a larger one.
	growing := sources("x", "y", "z")
	for i, dependants := range []int{1, 3, 10} {
		r := growing.Step(op("s"), links{from(i)})
		for j := range dependants {
			growing.Step(op(fmt.Sprint("dependant", i, j)), links{from(r)})
		}
		if i != 1 {
			growing.Result(growing.Step(op("t"), links{from(r)}), 1, "A")
		}
	}
	yz := sources("x", "y", "z")
	yz.Step(op("s"), links{from(1), from(2)})
	// A link with another selector is another link.
	selectors := sources("x")
	selectors.Step(op("s"), links{files(0, "a")})
	selectors.Result(selectors.Step(op("s"), links{files(0, "b")}), 1, "A")

	for _, tt := range []struct {
		name   string
		caches []*cache
		want   int // records
	}{
		{"adds up links", []*cache{addsUp}, 5},
		{"apart", []*cache{apart}, 6},
		{"dependants", []*cache{apart, bridge}, 4},
		{"dependants of dependants", []*cache{growing, bridge, yz}, 19},
		{"selectors", []*cache{selectors}, 3},
	} {
		if m := mustMerge(t, Options{}, lineages(t, tt.caches...)...); m.Stats.Records != tt.want {
			t.Errorf("%s: got %d records, want %d", tt.name, m.Stats.Records, tt.want)
		}
	}
}

// unify against the definition of what it computes.
func TestUnifyIsTheLeastFixpoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(denseKeys), 1, 3).Draw(t, "lineages")
		m, err := newMerging(all, nil, make([]int, len(all)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(unifyNaively(m.members), m.of); diff != "" {
			t.Fatalf("%s", diff)
		}
	})
}

// denseKeys draws records of which many become one.
func denseKeys(t *rapid.T) *Lineage {
	l := &Lineage{}
	for i := range 4 {
		l.records = append(l.records, record{digest: op(fmt.Sprint("source", i))})
	}
	for range rapid.IntRange(1, 14).Draw(t, "records") {
		input := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) link {
			return link{source: rapid.IntRange(0, len(l.records)-1).Draw(t, "source")}
		}), 1, 2)
		r := record{digest: op(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "op")), inputs: [][]link{input.Draw(t, "input")}}
		if r.digest == op("c") {
			r.inputs = append(r.inputs, input.Draw(t, "second input"))
		}
		l.records = append(l.records, r)
	}
	return l
}

func unifyNaively(members []member) []int {
	of := indexesOf(make([]*Lineage, len(members)))
	linksAt := func(record, input int) map[link]bool {
		links := map[link]bool{}
		for n, m := range members {
			if of[n] == record {
				for _, l := range m.inputs[input] {
					links[link{of[m.base+l.source], l.selector}] = true
				}
			}
		}
		return links
	}
	isOne := func(a, b int) bool {
		if members[a].digest != members[b].digest || len(members[a].inputs) != len(members[b].inputs) {
			return false
		}
		for input := range members[a].inputs {
			theirs, shared := linksAt(of[b], input), false
			for l := range linksAt(of[a], input) {
				shared = shared || theirs[l]
			}
			if !shared {
				return false
			}
		}
		return true
	}
	for changed := true; changed; {
		changed = false
		for a := range members {
			for b := range a {
				if of[a] != of[b] && isOne(a, b) {
					from, to := max(of[a], of[b]), min(of[a], of[b])
					for n := range of {
						if of[n] == from {
							of[n] = to
						}
					}
					changed = true
				}
			}
		}
	}
	number := map[int]int{}
	for n, r := range of {
		if _, ok := number[r]; !ok {
			number[r] = len(number)
		}
		of[n] = number[r]
	}
	return of
}
