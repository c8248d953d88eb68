package stages

import (
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/util/suggest"
)

// Lookup gives the index of the stage that target names: by name, whatever
// its case, or, beyond what BuildKit's own --target takes, by index; "" is the
// last stage. Of several stages with one name it is the last. The error is an
// *UnknownTargetError.
func (f *File) Lookup(target string) (int, error) {
	if target == "" {
		return len(f.Stages) - 1, nil
	}
	name := strings.ToLower(target)
	for i, s := range slices.Backward(f.Stages) {
		if s.Name == name {
			return i, nil
		}
	}
	// Names start with a letter, so a number means nothing else.
	if i, err := strconv.Atoi(target); err == nil && 0 <= i && i < len(f.Stages) && strconv.Itoa(i) == target {
		return i, nil
	}
	unknown := &UnknownTargetError{Target: target}
	var names []string
	for _, s := range f.Stages {
		unknown.Known = append(unknown.Known, s.Target())
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	unknown.Nearest, _ = suggest.Search(name, names, true)
	return 0, unknown
}

// Reachable gives the targets, which are indices of stages, and every stage
// that they need, directly or through others, ascending.
func (f *File) Reachable(targets ...int) []int {
	reached := make([]bool, len(f.Stages))
	for _, i := range targets {
		reached[i] = true
	}
	var all []int
	for i, s := range slices.Backward(f.Stages) { // needs are always earlier
		if !reached[i] {
			continue
		}
		all = append(all, i)
		for _, need := range s.Needs {
			reached[need] = true
		}
	}
	slices.Reverse(all)
	return all
}

// Leaves gives those among the stages that no other of them needs, directly
// or through others, ascending: building these builds all.
func (f *File) Leaves(among []int) []int {
	var needed []int
	for _, i := range among {
		needed = append(needed, f.Stages[i].Needs...)
	}
	needed = f.Reachable(needed...)
	var leaves []int
	for _, i := range among {
		if _, ok := slices.BinarySearch(needed, i); !ok {
			leaves = append(leaves, i)
		}
	}
	slices.Sort(leaves)
	return slices.Compact(leaves)
}

// Find gives the stage and the instruction within it that own a line of the
// file. Lines of FROM belong to instruction -1. Not ok is a line of neither: a
// blank, a comment between instructions, an ARG before the first FROM.
func (f *File) Find(line int) (stage, instruction int, ok bool) {
	for i, s := range f.Stages {
		if !s.Lines.Contains(line) {
			continue
		}
		for j, in := range s.Instructions {
			if in.Lines.Contains(line) {
				return i, j, true
			}
		}
		if s.Head.Contains(line) {
			return i, -1, true
		}
	}
	return 0, 0, false
}
