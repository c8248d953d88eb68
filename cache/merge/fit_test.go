package merge

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge/internal/lineagetest"
)

func TestTrimKeepsTheMostRelevantAndRecent(t *testing.T) {
	// Each lineage has an old and a new stage of five steps; a step weighs
	// some 300 bytes of the manifest, which is the larger document.
	two := func(lineage string) *cache {
		c := stage("old of "+lineage, lineage, 5, 100)
		source := 0
		var blobs []string
		for i := range 5 {
			source = c.Step(op(fmt.Sprint("new", i, lineage)), links{from(source)})
			blobs = append(blobs, fmt.Sprint("new", i, lineage))
			c.Result(source, 200+int64(i), blobs...)
		}
		return c
	}
	all := lineages(t, two("base"), two("branch"))
	for _, tt := range []struct {
		limit int
		keep  []int
		want  map[int]int // lineage to results
	}{
		{limit: importLimit, want: map[int]int{0: 10, 1: 10}},
		{limit: 6500, want: map[int]int{0: 10, 1: 8}},
		{limit: 6500, keep: []int{1}, want: map[int]int{0: 8, 1: 10}},
		{limit: 2300, keep: []int{1, 0}, want: map[int]int{1: 5}},
	} {
		m, err := merge(all, Options{Keep: tt.keep}, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		got, blobs := map[int]int{}, map[digest.Digest]bool{}
		for _, s := range m.Sources {
			got[s.Lineage]++
			blobs[s.Blob] = true
		}
		for _, lineage := range []string{"base", "branch"} {
			if blobs[lineagetest.Blob("old of "+lineage+"0 of "+lineage)] && !blobs[lineagetest.Blob("new4"+lineage)] {
				t.Errorf("limit %d: of %s the old stage is kept and the new one is not", tt.limit, lineage)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("limit %d, keep %v: %s", tt.limit, tt.keep, diff)
		}
		checkImportable(t, m, tt.limit)
	}
}

// What another lineage owns but the relevant one reached stays.
func TestTrimKeepsSharedRecordsOfTheRelevantLineage(t *testing.T) {
	base, branch := stage("deps", "base", 4, 1), stage("deps", "branch", 4, 1)
	for i := range 10 { // of no use to the branch, and newer
		base.Result(base.Step(op(fmt.Sprint("other", i)), links{from(0)}), 500, fmt.Sprint("other", i))
	}
	m, err := merge(lineages(t, base, branch), Options{Keep: []int{1}}, 2600)
	if err != nil {
		t.Fatal(err)
	}
	var blobs []digest.Digest
	for _, s := range m.Sources {
		blobs = append(blobs, s.Blob)
	}
	for i := range 4 {
		if !slices.Contains(blobs, lineagetest.Blob(fmt.Sprintf("deps%d of base", i))) {
			t.Errorf("step %d of deps was dropped before what the branch never reached", i)
		}
	}
	if m.Stats.DroppedForSize == 0 {
		t.Errorf("nothing was dropped")
	}
}

// A config that is mostly links stays within the limit as well.
func TestTrimCountsLinks(t *testing.T) {
	c := &cache{}
	for i := range 1000 {
		c.Source(op(fmt.Sprint("source", i)))
	}
	for i := range 3000 {
		var input links
		for j := range 30 {
			input = append(input, from((i+j*31)%1000))
		}
		c.Result(c.Step(op(fmt.Sprint("step", i)), input), 1, "A")
	}
	m := mustMerge(t, Options{}, lineages(t, c)...)
	checkImportable(t, m, importLimit)
	if len(m.Config) < importLimit*9/10 {
		t.Errorf("%d bytes, far less than would fit", len(m.Config))
	}
}

func TestKeepIsChecked(t *testing.T) {
	all := lineages(t, stage("app", "branch", 1, 1))
	for _, keep := range [][]int{{1}, {-1}, {0, 0}} {
		if _, err := Merge(all, Options{Keep: keep}); err == nil {
			t.Errorf("keep %v is accepted", keep)
		}
	}
}
