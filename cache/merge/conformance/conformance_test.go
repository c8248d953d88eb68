// Package conformance checks merged caches with BuildKit's own importer and
// cache manager. It is apart from package merge so that the tests of that do
// not link BuildKit.
package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/cache/remotecache"
	cacheimport "github.com/moby/buildkit/cache/remotecache/v1"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge/internal/lineagetest"
)

type (
	cache = lineagetest.Cache
	links = []lineagetest.Link
)

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// blobs is a registry: a content.Provider in memory.
type blobs map[digest.Digest][]byte

func (b blobs) add(raw []byte) ocispec.Descriptor {
	d := digest.FromBytes(raw)
	b[d] = raw
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw))}
}

func (b blobs) ReaderAt(_ context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	raw, ok := b[d.Digest]
	if !ok {
		return nil, fmt.Errorf("no blob %s", d.Digest)
	}
	return readerAt{bytes.NewReader(raw)}, nil
}

type readerAt struct{ *bytes.Reader }

func (readerAt) Close() error  { return nil }
func (r readerAt) Size() int64 { return r.Reader.Size() }

// imported is what BuildKit makes of a manifest.
func imported(manifest, config []byte) (solver.CacheManager, error) {
	registry := blobs{}
	registry.add(config)
	return remotecache.NewImporter(registry).Resolve(context.Background(), registry.add(manifest), "test", nil)
}

func mustImport(t fataler, manifest, config []byte) solver.CacheManager {
	t.Helper()
	c, err := imported(manifest, config)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

func read(t fataler, manifest, config []byte) *merge.Lineage {
	t.Helper()
	m, err := merge.ParseManifest(manifest)
	if err != nil {
		t.Fatalf("%v", err)
	}
	l, err := m.Lineage("test", config)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return l
}

func lineages(t fataler, caches ...*cache) []*merge.Lineage {
	t.Helper()
	var all []*merge.Lineage
	for _, c := range caches {
		manifest, config := c.Documents()
		all = append(all, read(t, manifest, config))
	}
	return all
}

// merged returns BuildKit's view of the merged caches.
func merged(t fataler, caches ...*cache) solver.CacheManager {
	t.Helper()
	m, err := merge.Merge(lineages(t, caches...), merge.Options{})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return mustImport(t, m.Manifest, m.Config)
}

// naiveUnion is the cache with all records and results of all lineages, as
// BuildKit's own structure adds them up.
func naiveUnion(t fataler, caches ...*cache) solver.CacheManager {
	t.Helper()
	chains := cacheimport.NewCacheChains()
	for _, c := range caches {
		if err := cacheimport.ParseConfig(c.Config, provider(c.Descriptors()), chains); err != nil {
			t.Fatalf("%v", err)
		}
	}
	keys, results, err := cacheimport.NewCacheKeyStorage(chains, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return solver.NewCacheManager(context.Background(), "union", keys, results)
}

func provider(descriptors []ocispec.Descriptor) cacheimport.DescriptorProvider {
	p := cacheimport.DescriptorProvider{}
	for _, d := range descriptors {
		p[d.Digest] = cacheimport.DescriptorProviderPair{Descriptor: d, Provider: blobs{}}
	}
	return p
}

// key is the definition of an input, file the content of one.
func key(k *solver.CacheKey, selector string) solver.CacheKeyWithSelector {
	return solver.CacheKeyWithSelector{
		CacheKey: solver.ExportableCacheKey{CacheKey: k}, Selector: digest.Digest(selector),
	}
}

func source(name string) solver.CacheKeyWithSelector {
	return key(solver.NewCacheKey(digest.Digest(name), "", 0), "")
}

func file(name string) solver.CacheKeyWithSelector {
	return key(solver.NewCacheKey(digest.Digest(name), "", -1), "")
}

// lookUp asks as the solver does (probeCache and recalcCurrentState in
// solver/edge.go): keys that match at every input, of their results the
// newest. It returns the key, nil for a miss, and the result's ID.
func lookUp(t fataler, c solver.CacheManager, op string, inputs ...solver.CacheKeyWithSelector) (*solver.CacheKey, string) {
	t.Helper()
	var matching []*solver.CacheKey
	for i, in := range inputs {
		keys, err := c.Query([]solver.CacheKeyWithSelector{in}, solver.Index(i), digest.Digest(op), 0)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if i > 0 {
			keys = slices.DeleteFunc(keys, func(k *solver.CacheKey) bool {
				return !slices.ContainsFunc(matching, func(m *solver.CacheKey) bool { return m.ID == k.ID })
			})
		}
		matching = keys
	}
	if len(matching) == 0 {
		return nil, ""
	}
	if len(matching) > 1 {
		t.Fatalf("%d keys for %s", len(matching), op)
	}
	records, err := c.Records(context.Background(), matching[0])
	if err != nil {
		t.Fatalf("%v", err)
	}
	if len(records) == 0 {
		return matching[0], ""
	}
	newest := slices.MaxFunc(records, func(a, b *solver.CacheRecord) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return matching[0], newest.ID
}

// resultOf is the ID that BuildKit gives a chain of layers (remoteID in
// cachestorage.go).
func resultOf(names ...string) string {
	var all string
	for _, n := range names {
		all += lineagetest.Blob(n).String()
	}
	return digest.FromString(all).String()
}

// secretCopied is a build whose stage writes a secret to a file, which is no
// part of the stage's key, and whose final stage copies the file.
func secretCopied(secret string, at int64) *cache {
	c := &cache{}
	base := c.Source(lineagetest.Op("base"))
	gen := c.Step(lineagetest.Op("gen"), links{lineagetest.From(base)})
	c.Result(gen, at, "base", "gen "+secret)
	x := c.Source(lineagetest.Content(secret))
	c.Result(c.Step(lineagetest.Op("copy"), links{lineagetest.From(base)}, links{lineagetest.Files(gen, "/x"), lineagetest.From(x)}),
		at+1, "base", "copy "+secret)
	return c
}

// The stage has run anew, with the secret AAA: its definition is unknown, the
// content of its file is not. The image must not have the secret of the other
// job.
func TestSecretOfAnotherJobIsNotServed(t *testing.T) {
	a, b := secretCopied("AAA", 100), secretCopied("BBB", 200)
	copyOf := func(c solver.CacheManager, secret string) string {
		_, result := lookUp(t, c, "copy", source("base"), file(secret))
		return result
	}
	if got := copyOf(naiveUnion(t, a, b), "AAA"); got != resultOf("base", "copy BBB") {
		t.Fatalf("the naive union serves %s: the case proves nothing", got)
	}
	for _, tt := range []struct {
		name     string
		caches   []*cache
		aaa, bbb string
	}{
		{"A before B", []*cache{a, b}, resultOf("base", "copy AAA"), ""},
		{"B before A", []*cache{b, a}, "", resultOf("base", "copy BBB")},
	} {
		c := merged(t, tt.caches...)
		if got := copyOf(c, "AAA"); got != tt.aaa {
			t.Errorf("%s: AAA gets %q, want %q", tt.name, got, tt.aaa)
		}
		if got := copyOf(c, "BBB"); got != tt.bbb {
			t.Errorf("%s: BBB gets %q, want %q", tt.name, got, tt.bbb)
		}
	}
}

// job is a build of a base and a deps stage that all jobs have, and of a test
// of its own that copies from deps.
func job(name string, at int64, deps, test string) *cache {
	c := &cache{}
	base := c.Source(lineagetest.Op("base"))
	d := c.Step(lineagetest.Op(deps), links{lineagetest.From(base)})
	c.Result(d, at, "base", deps+" of "+name)
	lib := c.Source(lineagetest.Content("lib of " + deps + " of " + name))
	cp := c.Step(lineagetest.Op("copy lib"), links{lineagetest.From(base)}, links{lineagetest.Files(d, "/lib"), lineagetest.From(lib)})
	c.Result(cp, at+1, "base", "lib of "+name)
	c.Result(c.Step(lineagetest.Op(test), links{lineagetest.From(cp)}), at+2, "base", "lib of "+name, test+" of "+name)
	return c
}

// buildHits looks up each step of a job.
func buildHits(t fataler, c solver.CacheManager, deps, test string) (results []string) {
	t.Helper()
	d, result := lookUp(t, c, deps, source("base"))
	results = append(results, result)
	if d == nil {
		return results
	}
	cp, result := lookUp(t, c, "copy lib", source("base"), key(d, "/lib"))
	results = append(results, result)
	if cp == nil {
		return results
	}
	_, result = lookUp(t, c, test, key(cp, ""))
	return append(results, result)
}

func TestEveryStepOfEveryJobHits(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b *cache
		of   [][2]string // deps and test of builds that must hit wholly
	}{
		{"siblings with different content", job("j1", 1, "deps", "test1"), job("j2", 2, "deps", "test2"),
			[][2]string{{"deps", "test1"}, {"deps", "test2"}}},
		{"rebase", job("master", 1, "deps v2", "app old"), job("branch", 2, "deps v1", "app new"),
			[][2]string{{"deps v2", "app old"}, {"deps v1", "app new"}}},
	} {
		for _, order := range [][]*cache{{tt.a, tt.b}, {tt.b, tt.a}} {
			c := merged(t, order...)
			for _, build := range tt.of {
				if got := buildHits(t, c, build[0], build[1]); len(got) != 3 || slices.Contains(got, "") {
					t.Errorf("%s: %v hits %q", tt.name, build, got)
				}
			}
		}
	}
}

// What BuildKit makes of a merged cache is that cache: nothing is refused,
// lost, or unified once more.
func TestBuildKitReadsWhatIsMerged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		caches := rapid.SliceOfN(rapid.Custom(lineagetest.Random), 1, 4).Draw(t, "caches")
		m, err := merge.Merge(lineages(t, caches...), merge.Options{})
		if errors.Is(err, merge.ErrEmpty) {
			t.Skip("no result")
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
		mustImport(t, m.Manifest, m.Config)

		chains := cacheimport.NewCacheChains()
		if err := cacheimport.Parse(m.Config, provider(m.Layers), chains); err != nil {
			t.Fatalf("%v", err)
		}
		config, _, err := chains.Marshal(context.Background())
		if err != nil {
			t.Fatalf("%v", err)
		}
		back := &cache{Config: *config}
		again, err := merge.Merge(lineages(t, back), merge.Options{})
		if err != nil {
			t.Fatalf("%v", err)
		}
		if !bytes.Equal(again.Config, m.Config) || again.Same != 0 {
			t.Fatalf("BuildKit makes of it: %s", cmp.Diff(decoded(t, m.Config), decoded(t, again.Config)))
		}
	})
}

func decoded(t fataler, config []byte) cacheimporttypes.CacheConfig {
	t.Helper()
	var c cacheimporttypes.CacheConfig
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

// What a lineage alone is refused, BuildKit refuses too, but for what the
// package is stricter in: a merge must not turn down what could be imported.
func TestRefusedLikeBuildKit(t *testing.T) {
	d := lineagetest.Op("x").String()
	for name, config := range map[string]string{
		"looping record": `{"records":[{"digest":"` + d + `","inputs":[[{"link":0}]]}]}`,
		"empty input":    `{"records":[{"digest":"` + d + `","inputs":[[]]}]}`,
		"no such record": `{"records":[{"digest":"` + d + `","inputs":[[{"link":7}]]}]}`,
		"no such layer":  `{"records":[{"digest":"` + d + `","layers":[{"layer":7}]}]}`,
	} {
		manifest := manifestOf(cacheimporttypes.CacheConfigMediaTypeV0, []byte(config))
		m, err := merge.ParseManifest(manifest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Lineage("test", []byte(config)); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := imported(manifest, []byte(config)); err == nil {
			t.Errorf("%s: BuildKit accepts it", name)
		}
	}
}

func manifestOf(mediaType string, config []byte, layers ...ocispec.Descriptor) []byte {
	return lineagetest.JSON(ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    lineagetest.ConfigDescriptor(mediaType, config),
		Layers:    layers,
	})
}

func TestTrimmedCacheIsImported(t *testing.T) {
	large := &cache{}
	base := large.Source(lineagetest.Op("base"))
	for i := range 5000 {
		s := large.Step(lineagetest.Op(fmt.Sprint(i)), links{lineagetest.From(base)})
		large.Config.Layers = append(large.Config.Layers, cacheimporttypes.CacheLayer{Blob: lineagetest.Blob(fmt.Sprint(i)), ParentIndex: -1})
		large.Config.Records[s].Results = []cacheimporttypes.CacheResult{{LayerIndex: i, CreatedAt: time.Unix(int64(i), 0).UTC()}}
	}
	manifest, config := large.Documents()
	if _, err := imported(manifest, config); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Fatalf("the whole cache: got %v, want too large", err)
	}
	m, err := merge.Merge([]*merge.Lineage{read(t, manifest, config)}, merge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Stats.DroppedForSize == 0 || m.Same >= 0 {
		t.Errorf("dropped %d records, same as lineage %d", m.Stats.DroppedForSize, m.Same)
	}
	c := mustImport(t, m.Manifest, m.Config)
	if _, got := lookUp(t, c, "4999", source("base")); got != resultOf("4999") {
		t.Errorf("the newest step gets %q", got)
	}
	if k, _ := lookUp(t, c, "0", source("base")); k != nil {
		t.Error("the oldest step is kept")
	}
	if size := max(len(m.Config), len(m.Manifest)); size < 1<<20*9/10 {
		t.Errorf("%d bytes, far less than would fit", size)
	}
}

// An inline cache merged alone serves what BuildKit serves from the image.
func TestInlineCacheServesWhatTheImageServes(t *testing.T) {
	records := []cacheimporttypes.CacheRecord{
		{Digest: lineagetest.Op("base")},
		{Digest: lineagetest.Op("copy"), Inputs: []links{{lineagetest.From(0)}}, Results: []cacheimporttypes.CacheResult{{LayerIndex: 1}}},
		{Digest: lineagetest.Op("test"), Inputs: []links{{lineagetest.From(0)}}, ChainedResults: []cacheimporttypes.ChainedResult{{LayerIndexes: []int{2, 0}}}},
	}
	config := lineagetest.JSON(map[string]any{
		"rootfs":                 map[string]any{"diff_ids": []digest.Digest{lineagetest.Op("0"), lineagetest.Op("1"), lineagetest.Op("2")}},
		"moby.buildkit.cache.v0": lineagetest.JSON(records),
		"history":                []map[string]any{{"created_by": "a"}, {"empty_layer": true}, {"created_by": "b"}, {"created_by": "c"}},
	})
	manifest := manifestOf(ocispec.MediaTypeImageConfig, config,
		lineagetest.Descriptor(lineagetest.Blob("0")), lineagetest.Descriptor(lineagetest.Blob("1")), lineagetest.Descriptor(lineagetest.Blob("2")))
	m, err := merge.Merge([]*merge.Lineage{read(t, manifest, config)}, merge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for op, want := range map[string]string{"copy": resultOf("0", "1"), "test": resultOf("2", "0")} {
		for name, c := range map[string]solver.CacheManager{
			"image": mustImport(t, manifest, config), "merged": mustImport(t, m.Manifest, m.Config),
		} {
			if _, got := lookUp(t, c, op, source("base")); got != want {
				t.Errorf("%s: %s gets %q, want %q", name, op, got, want)
			}
		}
	}
}
