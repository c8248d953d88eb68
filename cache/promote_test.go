package cache

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Two builds of one branch looked up the same cache and end at the same time.
func TestWhatBuildsSaveAtTheSameTimeIsUnited(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tag := exportTag(feat, "")
	f.push(t, f.repo, tag, "old")
	p := f.plan(t, feat, "", nil)
	found := Look(t.Context(), f.client, p)
	a, b := newPromotion(f.client, p, found), newPromotion(f.client, p, found)

	first := f.push(t, f.repo, "staging", "base", "deps", "a")
	if got, err := a.promote(t.Context(), first); err != nil || got.Digest != first.Digest {
		t.Fatalf("promoted %v, %v", got, err)
	}
	if got, want := f.at(t, f.repo, tag), layers("base", "deps", "a"); got != want {
		t.Errorf("the tag has %s, want %s: what the build knew is replaced", got, want)
	}
	second := f.push(t, f.repo, "staging", "base", "deps", "b")
	united, err := b.promote(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	want := layers("base", "deps", "a", "b")
	if got := f.at(t, f.repo, tag); got != want {
		t.Errorf("the tag has %s, want %s", got, want)
	}
	// The first one looks once more when it is done.
	if again, err := a.promote(t.Context(), first); err != nil || again.Digest != united.Digest {
		t.Errorf("promoted %v, %v, want %v", again, err, united)
	}
	if got := f.at(t, f.repo, tag); got != want {
		t.Errorf("then the tag has %s, want %s", got, want)
	}
}

// moveBefore has another build move a tag right before the first request of a
// kind, and tells whether it came to that.
func (f *fake) moveBefore(t *testing.T, tag string, to ocispec.Descriptor, when func(*http.Request) bool) *bool {
	t.Helper()
	raw, _, err := f.client.Manifest(t.Context(), f.repo, to.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	moved := false
	f.before = func(r *http.Request) int {
		if !moved && when(r) {
			moved = true
			f.mu.Unlock()
			defer f.mu.Lock()
			if _, err := f.client.PutManifest(t.Context(), f.repo, tag, raw, to.MediaType); err != nil {
				t.Error(err)
			}
		}
		return 0
	}
	return &moved
}

// Another build moves the tag between the question and the answer.
func TestTagIsMovedUnderABuild(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tag := exportTag(feat, "")
	p := f.plan(t, feat, "", nil)
	ours, theirs := f.push(t, f.repo, "ours", "base", "ours"), f.push(t, f.repo, "theirs", "base", "theirs")
	moved := f.moveBefore(t, tag, theirs, func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/"+tag)
	})
	if _, err := newPromotion(f.client, p, Found{}).promote(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	// Ours was written after theirs: they look again at the end of their run.
	if _, err := newPromotion(f.client, p, Found{}).promote(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	if got, want := f.at(t, f.repo, tag), layers("base", "ours", "theirs"); got != want || !*moved {
		t.Errorf("the tag has %s, want %s", got, want)
	}
}

// What cannot be read is of no use to the next build either.
func TestUnusableCacheIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tag := exportTag(feat, "")
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/x-else","digest":"sha256:` + strings.Repeat("0", 64) + `","size":2},"layers":[]}`)
	if _, err := f.client.PutManifest(t.Context(), f.repo, tag, raw, "application/vnd.oci.image.manifest.v1+json"); err != nil {
		t.Fatal(err)
	}
	ours := f.push(t, f.repo, "ours", "base")
	if got, err := newPromotion(f.client, f.plan(t, feat, "", nil), Found{}).promote(t.Context(), ours); err != nil || got.Digest != ours.Digest {
		t.Errorf("promoted %v, %v", got, err)
	}
}

// A registry that verifies manifests rejects one with a layer it has lost.
func TestUnitedCacheIsRejected(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tag := exportTag(feat, "")
	f.push(t, f.repo, tag, "base", "theirs")
	ours := f.push(t, f.repo, "ours", "base", "ours")
	rejected := false
	f.before = func(r *http.Request) int {
		if !rejected && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/"+tag) {
			rejected = true
			return http.StatusBadRequest
		}
		return 0
	}
	if got, err := newPromotion(f.client, f.plan(t, feat, "", nil), Found{}).promote(t.Context(), ours); err != nil || got.Digest != ours.Digest {
		t.Errorf("promoted %v, %v", got, err)
	}
	if got, want := f.at(t, f.repo, tag), layers("base", "ours"); got != want || !rejected {
		t.Errorf("the tag has %s, want %s", got, want)
	}
}

// pushLarge stores a cache of many results of one time, of a size that leaves
// no room for another in what is imported, and tells the digests of its
// records.
func (f *fake) pushLarge(t *testing.T, tag, name string, created time.Time) (ocispec.Descriptor, map[digest.Digest]bool) {
	t.Helper()
	layer := f.blob(t, f.repo, []byte(name), ocispec.MediaTypeImageLayerGzip)
	config := cacheimporttypes.CacheConfig{Layers: []cacheimporttypes.CacheLayer{{Blob: layer.Digest, ParentIndex: -1}}}
	records := map[digest.Digest]bool{}
	for i := range 5000 {
		record := digest.FromString(fmt.Sprint(name, i))
		records[record] = true
		config.Records = append(config.Records, cacheimporttypes.CacheRecord{
			Digest: record, Results: []cacheimporttypes.CacheResult{{LayerIndex: 0, CreatedAt: created}},
		})
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: f.blob(t, f.repo, raw, cacheimporttypes.CacheConfigMediaTypeV0), Layers: []ocispec.Descriptor{layer},
	})
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := f.client.PutManifest(t.Context(), f.repo, tag, manifest, ocispec.MediaTypeImageManifest)
	if err != nil {
		t.Fatal(err)
	}
	return pushed, records
}

// Of two caches that are too large together the newer results stay, whichever
// was there first.
func TestTheOldestGoesOfWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for i := range 4 { // the order of the caches' digests is chance
		f := newFake(t)
		p := f.plan(t, feat, "", nil)
		f.pushLarge(t, p.Owner().PartialTag(), fmt.Sprint("old", i), time.Unix(1, 0).UTC())
		exported, records := f.pushLarge(t, "staging", fmt.Sprint("new", i), time.Unix(2, 0).UTC())
		united, err := newPartialPromotion(f.client, p).promote(t.Context(), exported)
		if err != nil {
			t.Fatal(err)
		}
		source := source{repository: f.repo, digest: united.Digest}
		source.lineages = []Lineage{{}}
		if err := source.read(t.Context(), f.client); err != nil {
			t.Fatal(err)
		}
		merged, err := merge.Merge([]*merge.Lineage{source.lineage}, merge.Options{})
		if err != nil {
			t.Fatal(err)
		}
		kept := 0
		for _, result := range merged.Sources {
			if records[result.Record] {
				kept++
			}
		}
		if kept != len(records) {
			t.Errorf("%d of %d results are kept", kept, len(records))
		}
	}
}

// That not all that was found is imported is told.
func TestCachesThatDoNotFitAreTold(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.pushLarge(t, exportTag(feat, ""), "branch", time.Unix(1, 0).UTC())
	f.pushLarge(t, Owner{Branch: feat}.PartialTag(), "partial", time.Unix(2, 0).UTC())
	v, _ := f.view(t, f.plan(t, feat, "", nil))
	if len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "of their 10000 records are left out") {
		t.Errorf("warnings: %q", v.Warnings)
	}
}

// A third build comes and goes while two caches are being united: it has found
// its own at the tag and does not look again.
func TestTagIsMovedWhileCachesAreUnited(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tag := exportTag(feat, "")
	f.push(t, f.repo, tag, "base", "first")
	third := f.push(t, f.repo, "third", "base", "third")
	ours := f.push(t, f.repo, "ours", "base", "ours")
	moved := f.moveBefore(t, tag, third, func(r *http.Request) bool {
		return r.Method == http.MethodPost // of the united records
	})
	if _, err := newPromotion(f.client, f.plan(t, feat, "", nil), Found{}).promote(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	if got, want := f.at(t, f.repo, tag), layers("base", "ours", "third"); got != want || !*moved {
		t.Errorf("the tag has %s, want %s", got, want)
	}
}
