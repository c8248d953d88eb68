package mounts

import (
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"
)

func TestPacksThatAreGivenUp(t *testing.T) {
	t.Parallel()
	uses := func(pairs ...int64) []packUse { // bytes, bytes in use
		var uses []packUse
		for i := 0; i < len(pairs); i += 2 {
			uses = append(uses, packUse{packFacts{ID: i/2 + 1, Bytes: pairs[i]}, pairs[i+1]})
		}
		return uses
	}
	small := func(n int) []int64 { return slices.Repeat([]int64{10, 10}, n) }
	for _, tc := range []struct {
		name  string
		packs []packUse
		fresh int64
		want  []int
	}{
		{"the first", nil, 10, nil},
		{"all in use", uses(100, 100, 10, 6), 5, nil},
		{"half dead", uses(100, 50, 10, 10), 5, []int{1}},
		{"all dead", uses(100, 0, 10, 10), 0, []int{1}},
		{"nothing new and many packs", uses(small(mostPacks)...), 0, nil},
		{"one more small one than most", uses(append([]int64{1000, 1000}, small(mostPacks-1)...)...), 10, []int{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		{"sizes that fall", uses(2048, 2048, 1024, 1024, 512, 512, 256, 256, 128, 128, 64, 64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1), 1, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		{"at least one", uses(append(small(mostPacks-1), 500, 500)...), 10, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := given(tc.packs, tc.fresh); !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// However a mount changes: there are never more packs than the most, at least
// half of what is stored is in use, and what is uploaded stays within a few
// times of what is new.
func TestChainsStaySmallAndCheap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var packs []packUse
		var id int
		var uploaded, new int64
		for range 60 {
			for i := range packs {
				// Contents die here and there, and never come back.
				if rapid.IntRange(0, 9).Draw(t, "dies") == 0 {
					packs[i].Live -= rapid.Int64Range(0, packs[i].Live).Draw(t, "dead")
				}
			}
			fresh := rapid.Int64Range(0, 1000).Draw(t, "new")
			if rapid.IntRange(0, 30).Draw(t, "bulk") == 0 {
				fresh *= 1000
			}
			up := given(packs, fresh)
			new += fresh
			for _, pack := range packs {
				if slices.Contains(up, pack.ID) {
					fresh += pack.Live
				}
			}
			packs = slices.DeleteFunc(packs, func(p packUse) bool { return slices.Contains(up, p.ID) })
			if fresh > 0 {
				id++
				packs = append(packs, packUse{packFacts{ID: id, Bytes: fresh}, fresh})
			}
			uploaded += fresh
			var stored, live int64
			for _, pack := range packs {
				stored, live = stored+pack.Bytes, live+pack.Live
			}
			if len(packs) > mostPacks || stored > 2*live {
				t.Fatalf("%d packs of %d bytes, of which %d are in use", len(packs), stored, live)
			}
		}
		// Each content is uploaded once when it is new; again when half of its
		// pack is dead, which that half has paid for; and again when as much
		// has come since.
		if uploaded > 12*new {
			t.Fatalf("%d bytes uploaded for %d new ones", uploaded, new)
		}
	})
}

func TestWholeTrees(t *testing.T) {
	t.Parallel()
	state := func(sizes ...int64) State {
		var s State
		for _, size := range sizes {
			s.Trees = append(s.Trees, ocispec.Descriptor{Size: size})
		}
		return s
	}
	for _, tc := range []struct {
		name string
		s    State
		want bool
	}{
		{"none", State{}, true},
		{"one", state(100), false},
		{"small changes", state(100, 10, 10), false},
		{"as much changes", state(100, 90, 11), true},
		{"many changes", state(append([]int64{1000}, slices.Repeat([]int64{1}, mostTrees-1)...)...), true},
	} {
		if got := wholeTree(tc.s); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}
