package merge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge/internal/lineagetest"
)

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func read(t fataler, manifest, config []byte) *Lineage {
	t.Helper()
	m, err := ParseManifest(manifest)
	if err != nil {
		t.Fatalf("%v", err)
	}
	l, err := m.Lineage("test", config)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return l
}

func lineages(t fataler, caches ...*lineagetest.Cache) []*Lineage {
	t.Helper()
	var all []*Lineage
	for _, c := range caches {
		manifest, config := c.Documents()
		all = append(all, read(t, manifest, config))
	}
	return all
}

func mustMerge(t fataler, opts Options, all ...*Lineage) *Merged {
	t.Helper()
	m, err := Merge(all, opts)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return m
}

func decoded(t fataler, m *Merged) cacheimporttypes.CacheConfig {
	t.Helper()
	var c cacheimporttypes.CacheConfig
	if err := json.Unmarshal(m.Config, &c); err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

// chainOf returns the blobs of a layer and those below it, the topmost first.
func chainOf(layers []cacheimporttypes.CacheLayer, i int) string {
	var blobs []string
	for ; i != -1; i = layers[i].ParentIndex {
		blobs = append(blobs, layers[i].Blob.String())
	}
	return strings.Join(blobs, " ")
}

// checkImportable fails unless BuildKit can import the merged cache as it is.
func checkImportable(t fataler, m *Merged, limit int) {
	t.Helper()
	if max(len(m.Config), len(m.Manifest)) > limit {
		t.Fatalf("config of %d bytes, manifest of %d, limit %d", len(m.Config), len(m.Manifest), limit)
	}
	read(t, m.Manifest, m.Config)
	var manifest ocispec.Manifest
	if err := json.Unmarshal(m.Manifest, &manifest); err != nil {
		t.Fatalf("%v", err)
	}
	if manifest.Config.Digest != digest.FromBytes(m.Config) || m.Digest != digest.FromBytes(m.Manifest) {
		t.Fatalf("digests do not fit the documents")
	}
	if diff := cmp.Diff(m.Layers, manifest.Layers); diff != "" {
		t.Fatalf("layers of the manifest: %s", diff)
	}
	listed := map[digest.Digest]bool{}
	for _, d := range m.Layers {
		if listed[d.Digest] {
			t.Fatalf("blob %s is listed twice", d.Digest)
		}
		listed[d.Digest] = true
	}
	c := decoded(t, m)
	used := map[digest.Digest]bool{}
	for i, l := range c.Layers {
		if l.ParentIndex >= i {
			t.Fatalf("layer %d comes before its parent", i)
		}
		used[l.Blob] = true
	}
	if len(used) != len(listed) {
		t.Fatalf("%d blobs used, %d listed", len(used), len(listed))
	}
	for i, r := range c.Records {
		if len(r.Results) > 1 || len(r.ChainedResults) > 0 {
			t.Fatalf("record %d has several results", i)
		}
		for _, input := range r.Inputs {
			if len(input) == 0 {
				t.Fatalf("record %d has an empty input", i)
			}
			for _, in := range input {
				if in.LinkIndex >= i {
					t.Fatalf("record %d comes before its source", i)
				}
			}
		}
	}
}

// checkContent fails if a content key leads to a result that no lineage made
// from that content: the image of one job would be taken for another's.
func checkContent(t fataler, m *Merged, caches ...*lineagetest.Cache) {
	t.Helper()
	type claim struct {
		op, content digest.Digest
		input       int
		chain       string
	}
	claims := func(c cacheimporttypes.CacheConfig) map[claim]bool {
		all := map[claim]bool{}
		for _, r := range c.Records {
			var chains []string
			for _, result := range r.Results {
				chains = append(chains, chainOf(c.Layers, result.LayerIndex))
			}
			for _, result := range r.ChainedResults {
				var blobs []string
				for _, i := range slices.Backward(result.LayerIndexes) {
					blobs = append(blobs, c.Layers[i].Blob.String())
				}
				chains = append(chains, strings.Join(blobs, " "))
			}
			for input, links := range r.Inputs {
				for _, in := range links {
					if source := c.Records[in.LinkIndex]; in.Selector == "" && len(source.Inputs) == 0 {
						for _, chain := range chains {
							all[claim{r.Digest, source.Digest, input, chain}] = true
						}
					}
				}
			}
		}
		return all
	}
	made := map[claim]bool{}
	for _, c := range caches {
		for k := range claims(c.Config) {
			made[k] = true
		}
	}
	for k := range claims(decoded(t, m)) {
		if !made[k] {
			t.Fatalf("no lineage made %s from content %s", k.chain, k.content)
		}
	}
}

func randomCaches(t *rapid.T, least int) ([]*lineagetest.Cache, []*Lineage) {
	caches := rapid.SliceOfN(rapid.Custom(lineagetest.Random), least, 4).Draw(t, "caches")
	return caches, lineages(t, caches...)
}

// mergeRandom skips the draw if there is nothing to merge.
func mergeRandom(t *rapid.T, opts Options, all ...*Lineage) *Merged {
	m, err := Merge(all, opts)
	if errors.Is(err, ErrEmpty) {
		t.Skip("no result")
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return m
}

func TestMergedCacheIsImportableAndTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caches, all := randomCaches(t, 1)
		m := mergeRandom(t, Options{}, all...)
		checkImportable(t, m, importLimit)
		checkContent(t, m, caches...)
		if again := mustMerge(t, Options{}, all...); !cmp.Equal(m, again) {
			t.Fatalf("another run: %s", cmp.Diff(m, again))
		}
	})
}

func TestMergeIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, all := randomCaches(t, 2)
		m := mergeRandom(t, Options{}, all...)
		own := read(t, m.Manifest, m.Config)

		for name, again := range map[string]*Merged{
			"merge(m)":         mustMerge(t, Options{}, own),
			"merge(m, m)":      mustMerge(t, Options{}, own, own),
			"merge(m, all...)": mustMerge(t, Options{}, append([]*Lineage{own}, all...)...),
			"merge(all, all)":  mustMerge(t, Options{}, append(slices.Clone(all), all...)...),
			"merge(all, m)":    mustMerge(t, Options{}, append(slices.Clone(all), own)...),
		} {
			if !bytes.Equal(again.Config, m.Config) {
				t.Fatalf("%s: %s", name, cmp.Diff(decoded(t, m), decoded(t, again)))
			}
		}
		if same := mustMerge(t, Options{}, own, own).Same; same != 0 {
			t.Fatalf("merged with itself the same lineage is %d", same)
		}
	})
}

// The same exports with records in another order, as BuildKit writes them
// from one run to the next, are the same cache.
func TestOrderOfRecordsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.Custom(lineagetest.Random).Draw(t, "cache")
		m := mergeRandom(t, Options{}, lineages(t, c)...)
		canonical := &lineagetest.Cache{Config: decoded(t, m)}
		shuffled := &lineagetest.Cache{Config: shuffle(t, canonical.Config)}
		again := mustMerge(t, Options{}, lineages(t, shuffled)...)
		if !bytes.Equal(m.Config, again.Config) {
			t.Fatalf("%s", cmp.Diff(decoded(t, m), decoded(t, again)))
		}
		if again.Same != 0 {
			t.Fatalf("not recognised as the same cache")
		}
	})
}

func shuffle(t *rapid.T, c cacheimporttypes.CacheConfig) cacheimporttypes.CacheConfig {
	indexes := make([]int, len(c.Records))
	for i := range indexes {
		indexes[i] = i
	}
	order := rapid.Permutation(indexes).Draw(t, "order")
	at := make([]int, len(order))
	for to, from := range order {
		at[from] = to
	}
	out := cacheimporttypes.CacheConfig{Layers: c.Layers}
	for _, from := range order {
		r := c.Records[from]
		inputs := make([][]cacheimporttypes.CacheInput, len(r.Inputs))
		for i, links := range r.Inputs {
			for _, in := range slices.Backward(links) {
				inputs[i] = append(inputs[i], cacheimporttypes.CacheInput{LinkIndex: at[in.LinkIndex], Selector: in.Selector})
			}
		}
		r.Inputs = inputs
		out.Records = append(out.Records, r)
	}
	return out
}

func TestNoMissingBlobIsUsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, all := randomCaches(t, 1)
		missing := map[digest.Digest]bool{}
		for _, b := range rapid.SliceOfN(rapid.IntRange(0, 7), 0, 4).Draw(t, "missing") {
			missing[lineagetest.Blob(fmt.Sprint(b))] = true
		}
		m := mergeRandom(t, Options{Missing: missing}, all...)
		checkImportable(t, m, importLimit)
		for _, d := range m.Layers {
			if missing[d.Digest] {
				t.Fatalf("missing blob %s is listed", d.Digest)
			}
		}
		if m.Same != none && slices.ContainsFunc(all[m.Same].blobs, func(d ocispec.Descriptor) bool { return missing[d.Digest] && usesBlob(all[m.Same], d.Digest) }) {
			t.Fatalf("lineage %d uses a missing blob", m.Same)
		}
	})
}

func usesBlob(l *Lineage, blob digest.Digest) bool {
	for _, r := range l.records {
		for _, result := range r.results {
			for i := result.layer; i != none; i = l.layers[i].parent {
				if l.layers[i].blob == blob {
					return true
				}
			}
		}
	}
	return false
}

func TestTrimmedCacheIsImportableAndTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caches, all := randomCaches(t, 1)
		whole := mergeRandom(t, Options{}, all...)
		limit := rapid.IntRange(600, 6000).Draw(t, "limit")
		keep := rapid.Permutation(indexesOf(all)).Draw(t, "keep")
		m, err := merge(all, Options{Keep: keep}, limit)
		if errors.Is(err, ErrEmpty) {
			t.Skip("nothing fits")
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
		checkImportable(t, m, limit)
		checkContent(t, m, caches...)
		if m.Stats.Records+m.Stats.DroppedForSize != whole.Stats.Records {
			t.Fatalf("%d records, %d dropped, %d untrimmed", m.Stats.Records, m.Stats.DroppedForSize, whole.Stats.Records)
		}
	})
}

func indexesOf(all []*Lineage) []int {
	indexes := make([]int, len(all))
	for i := range indexes {
		indexes[i] = i
	}
	return indexes
}
