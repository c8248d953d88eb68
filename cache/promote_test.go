package cache

import (
	"net/http"
	"strings"
	"testing"
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

// Another build moves the tag between the question and the answer.
func TestTagIsMovedUnderABuild(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	tag := exportTag(feat, "")
	p := f.plan(t, feat, "", nil)
	ours, theirs := f.push(t, f.repo, "ours", "base", "ours"), f.push(t, f.repo, "theirs", "base", "theirs")
	raw, _, err := f.client.Manifest(t.Context(), f.repo, "theirs")
	if err != nil {
		t.Fatal(err)
	}
	moved := false
	f.before = func(r *http.Request) int {
		if !moved && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/"+tag) {
			moved = true
			f.mu.Unlock()
			defer f.mu.Lock()
			if _, err := f.client.PutManifest(t.Context(), f.repo, tag, raw, theirs.MediaType); err != nil {
				t.Error(err)
			}
		}
		return 0
	}
	if _, err := newPromotion(f.client, p, Found{}).promote(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	// Ours was written after theirs: they look again at the end of their run.
	if _, err := newPromotion(f.client, p, Found{}).promote(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	if got, want := f.at(t, f.repo, tag), layers("base", "ours", "theirs"); got != want || !moved {
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
