package merge

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge/internal/lineagetest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

type (
	cache = lineagetest.Cache
	links = []lineagetest.Link
)

var (
	op      = lineagetest.Op
	content = lineagetest.Content
	from    = lineagetest.From
	files   = lineagetest.Files
)

// copied is a stage that copies a file of another: the key of the COPY is
// what the stage is, and what the file holds.
func copied(stage, file string, at int64, blob string) *cache {
	c := &cache{}
	definition := c.Source(op(stage))
	c.Result(c.Step(op("copy"), links{files(definition, "file"), from(c.Source(content(file)))}), at, blob)
	return c
}

// found returns the top blobs of the results of an operation that a source
// leads to.
func found(c cacheimporttypes.CacheConfig, operation, source digest.Digest) []digest.Digest {
	var blobs []digest.Digest
	for _, r := range c.Records {
		leads := slices.ContainsFunc(r.Inputs, func(input links) bool {
			return slices.ContainsFunc(input, func(l lineagetest.Link) bool { return c.Records[l.LinkIndex].Digest == source })
		})
		if r.Digest == operation && leads {
			for _, result := range r.Results {
				blobs = append(blobs, c.Layers[result.LayerIndex].Blob)
			}
		}
	}
	return blobs
}

func TestWhoOwnsARecord(t *testing.T) {
	type want map[digest.Digest]string // source to blob of the copy, "" for a miss
	for _, tt := range []struct {
		name      string
		caches    []*cache
		want      want
		conflicts int
	}{
		{
			name:      "the loser's content key does not lead to the winner's result",
			caches:    []*cache{copied("stage", "a", 1, "A"), copied("stage", "b", 2, "B")},
			want:      want{op("stage"): "A", content("a"): "A", content("b"): ""},
			conflicts: 1,
		},
		{
			name:      "the first lineage wins though it is older",
			caches:    []*cache{copied("stage", "b", 2, "B"), copied("stage", "a", 1, "A")},
			want:      want{op("stage"): "B", content("b"): "B", content("a"): ""},
			conflicts: 1,
		},
		{
			name: "a definition known by its disagreeing content alone is dropped",
			caches: []*cache{
				copied("stage", "a", 1, "A"), copied("stage", "b", 2, "B"), copied("other", "b", 3, "C"),
			},
			want:      want{op("stage"): "A", op("other"): "", content("b"): ""},
			conflicts: 2,
		},
		{
			name:      "definitions of the same content share a result",
			caches:    []*cache{copied("stage", "a", 1, "A"), copied("other", "a", 2, "B")},
			want:      want{op("stage"): "A", op("other"): "A", content("a"): "A"},
			conflicts: 1,
		},
		{
			name:   "equal results are no conflict and keep both contents",
			caches: []*cache{copied("stage", "a", 1, "A"), copied("stage", "b", 2, "A")},
			want:   want{op("stage"): "A", content("a"): "A", content("b"): "A"},
		},
		{
			name: "within a lineage the newest wins, and its content",
			caches: []*cache{func() *cache {
				c := copied("stage", "a", 1, "A")
				c.Result(c.Step(op("copy"), links{files(0, "file"), from(c.Source(content("b")))}), 2, "B")
				return c
			}()},
			want:      want{op("stage"): "B", content("a"): "", content("b"): "B"},
			conflicts: 1,
		},
		{
			name: "a record without result does not lend its content to another's",
			caches: []*cache{func() *cache {
				c := copied("stage", "a", 1, "A")
				c.Config.Records[2].Results = nil
				return c
			}(), copied("stage", "b", 2, "B")},
			want: want{op("stage"): "B", content("a"): "", content("b"): "B"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mustMerge(t, Options{}, lineages(t, tt.caches...)...)
			got := decoded(t, m)
			for source, blob := range tt.want {
				var blobs []digest.Digest
				if blob != "" {
					blobs = []digest.Digest{lineagetest.Blob(blob)}
				}
				if diff := cmp.Diff(blobs, found(got, op("copy"), source)); diff != "" {
					t.Errorf("from %s: %s", source, diff)
				}
			}
			if m.Stats.Conflicts != tt.conflicts {
				t.Errorf("got %d conflicts, want %d", m.Stats.Conflicts, tt.conflicts)
			}
			checkContent(t, m, tt.caches...)
		})
	}
}

// Records without result lead to results: what the second lineage copied into
// an intermediate stage must not lead to what the first built on its own.
func TestFirstLineageOwnsWhatNobodyHasAResultFor(t *testing.T) {
	intermediate := func(file, blob string, at int64) *cache {
		c := copied("stage", file, 0, "unused")
		c.Config.Records[2].Results, c.Config.Layers = nil, nil
		c.Result(c.Step(op("build"), links{from(2)}), at, blob)
		return c
	}
	caches := []*cache{intermediate("a", "A", 1), intermediate("b", "B", 2)}
	got := decoded(t, mustMerge(t, Options{}, lineages(t, caches...)...))
	for _, r := range got.Records {
		if r.Digest == content("b") {
			continue // it leads nowhere
		}
		for _, in := range slices.Concat(r.Inputs...) {
			if got.Records[in.LinkIndex].Digest == content("b") {
				t.Errorf("content b leads to %s", r.Digest)
			}
		}
	}
	if blobs := found(got, op("build"), op("copy")); !slices.Equal(blobs, []digest.Digest{lineagetest.Blob("A")}) {
		t.Errorf("the build's results are %v", blobs)
	}
}

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

func TestLoopsAreCut(t *testing.T) {
	own := &cache{} // a record that is its own source
	own.Source(op("r"))
	own.Step(op("x"), links{from(0)})
	own.Result(own.Step(op("x"), links{from(1), from(0)}), 1, "A")

	yAfterX, xAfterY := &cache{}, &cache{}
	for _, c := range []*cache{yAfterX, xAfterY} {
		c.Source(op("r"))
		c.Source(op("q"))
	}
	yAfterX.Step(op("x"), links{from(0)})
	yAfterX.Step(op("y"), links{from(2), from(1)})
	yAfterX.Result(yAfterX.Step(op("z"), links{from(3)}), 1, "A")
	xAfterY.Step(op("y"), links{from(1)})
	xAfterY.Result(xAfterY.Step(op("x"), links{from(2), from(0)}), 1, "B")

	for _, tt := range []struct {
		name                  string
		caches                []*cache
		records, links, drops int
	}{
		{"own source", []*cache{own}, 2, 1, 1},
		{"first x, then y, then z", []*cache{yAfterX, xAfterY}, 5, 4, 1},
		{"first y, then x", []*cache{xAfterY, yAfterX}, 5, 4, 1},
	} {
		m := mustMerge(t, Options{}, lineages(t, tt.caches...)...)
		checkImportable(t, m, importLimit)
		links := 0
		for _, r := range decoded(t, m).Records {
			links += len(slices.Concat(r.Inputs...))
		}
		if m.Stats.Records != tt.records || links != tt.links || m.Stats.DroppedLinks != tt.drops {
			t.Errorf("%s: %d links, %+v", tt.name, links, m.Stats)
		}
	}
}

// stage is a linear stage of one lineage, each step with a layer of its own.
func stage(name, lineage string, steps int, at int64) *cache {
	c := &cache{}
	source := c.Source(op("base"))
	blobs := []string{}
	for i := range steps {
		source = c.Step(op(fmt.Sprint(name, i)), links{from(source)})
		blobs = append(blobs, fmt.Sprint(name, i, " of ", lineage))
		c.Result(source, at+int64(i), blobs...)
	}
	return c
}

func TestMissingBlobsGiveWayToTheNextLineage(t *testing.T) {
	caches := []*cache{stage("app", "branch", 3, 1), stage("app", "base", 3, 1)}
	gone := lineagetest.Blob("app1 of branch")
	m := mustMerge(t, Options{Missing: map[digest.Digest]bool{gone: true}}, lineages(t, caches...)...)
	var owners []int
	for _, s := range m.Sources {
		owners = append(owners, s.Lineage)
	}
	if want := []int{0, 1, 1}; !slices.Equal(owners, want) {
		t.Errorf("results are of %v, want %v", owners, want)
	}
	if m.Stats.DroppedResults != 2 || m.Stats.Conflicts != 1 {
		t.Errorf("got %+v", m.Stats)
	}
}

func TestSameLineageIsRecognised(t *testing.T) {
	small, large := stage("app", "branch", 2, 1), stage("app", "branch", 3, 1)
	foreign := stage("app", "base", 3, 1)
	unlisted := stage("app", "branch", 3, 1)
	unlisted.Unlisted = map[digest.Digest]bool{lineagetest.Blob("app2 of branch"): true}
	tooLarge := lineages(t, large)
	tooLarge[0].importable = false
	for _, tt := range []struct {
		name     string
		lineages []*Lineage
		want     int
	}{
		{"alone", lineages(t, large), 0},
		{"holds all the others hold", lineages(t, small, large), 1},
		{"adds nothing to the first", lineages(t, large, small), 0},
		{"both add", lineages(t, small, stage("test", "branch", 1, 1)), none},
		{"other results of the same steps", lineages(t, foreign, large), 0},
		{"keys of the second, results of the first", lineages(t, stage("app", "base", 2, 1), large), none},
		{"keys of the second, times of the first", lineages(t, stage("app", "branch", 2, 50), large), none},
		{"results not listed", lineages(t, unlisted), none},
		{"too large for BuildKit", tooLarge, none},
	} {
		if got := mustMerge(t, Options{}, tt.lineages...).Same; got != tt.want {
			t.Errorf("%s: got lineage %d, want %d", tt.name, got, tt.want)
		}
	}
}

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

func TestDescriptorsAreThoseOfTheFirstLineage(t *testing.T) {
	manifest, config := stage("app", "branch", 1, 1).Documents()
	other := bytes.ReplaceAll(manifest, []byte(`"size":1234`), []byte(`"size":99`))
	m := mustMerge(t, Options{}, read(t, manifest, config), read(t, other, config))
	if diff := cmp.Diff([]ocispec.Descriptor{lineagetest.Descriptor(lineagetest.Blob("app0 of branch"))}, m.Layers); diff != "" {
		t.Error(diff)
	}
}

func TestMergeOfNothing(t *testing.T) {
	keysOnly := &cache{}
	keysOnly.Source(op("base"))
	for name, all := range map[string][]*Lineage{"no lineage": nil, "no result": lineages(t, keysOnly)} {
		if _, err := Merge(all, Options{}); !errors.Is(err, ErrEmpty) {
			t.Errorf("%s: got %v", name, err)
		}
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

// The documents as they are pushed, for two jobs that both built base and
// then a test each.
func TestGolden(t *testing.T) {
	sibling := func(job string, at int64) *cache {
		c := stage("deps", job, 2, at)
		c.Result(c.Step(op("copy for "+job), links{from(0)}, links{files(2, "lib"), from(c.Source(content("lib of " + job)))}), at+9, "copy of "+job)
		return c
	}
	m := mustMerge(t, Options{}, lineages(t, sibling("job1", 1), sibling("job2", 2))...)
	for name, raw := range map[string][]byte{"config": m.Config, "manifest": m.Manifest} {
		var indented bytes.Buffer
		if err := json.Indent(&indented, raw, "", "  "); err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "siblings."+name+".json")
		if *update {
			if err := os.WriteFile(golden, indented.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), indented.String()); diff != "" {
			t.Errorf("%s: %s", golden, diff)
		}
	}
}
