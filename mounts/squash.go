package mounts

import "slices"

// A State grows by a pack and a tree with each Save that finds something new.
// What it is made of is bounded by these rules, all of them kept in a Save
// that uploads anyway:
//
//   - A pack of whose bytes more than half are in use no more is given up:
//     what is still in use goes into the new pack.
//   - When there would be more than mostPacks, the newest are given up, as
//     long as one is not larger than all that go with it. So every content is
//     uploaded again only after as much again has come, and a large first
//     pack stays.
//   - After mostTrees, or when the changes are larger than the first tree,
//     the whole tree is written again.
const (
	mostPacks = 12
	mostTrees = 16
)

// packUse is a pack and how many of its bytes are in use.
type packUse struct {
	packFacts
	Live int64
}

// given returns the IDs of the packs that a Save gives up, when so many bytes
// are new.
func given(packs []packUse, fresh int64) []int {
	var ids []int
	kept := slices.Clone(packs)
	kept = slices.DeleteFunc(kept, func(p packUse) bool {
		if p.Live > p.Bytes/2 {
			return false
		}
		ids = append(ids, p.ID)
		fresh += p.Live
		return true
	})
	if fresh > 0 && len(kept) >= mostPacks {
		for len(kept) > 0 {
			newest := kept[len(kept)-1]
			// One goes in any case.
			if newest.Live > fresh && len(kept) < mostPacks {
				break
			}
			ids = append(ids, newest.ID)
			fresh += newest.Live
			kept = kept[:len(kept)-1]
		}
	}
	slices.Sort(ids)
	return ids
}

// wholeTree reports whether the next tree of a state is to be a whole one.
func wholeTree(s State) bool {
	if len(s.Trees) == 0 || len(s.Trees) >= mostTrees {
		return true
	}
	var changes int64
	for _, tree := range s.Trees[1:] {
		changes += tree.Size
	}
	return changes > s.Trees[0].Size
}
