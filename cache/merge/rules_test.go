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
