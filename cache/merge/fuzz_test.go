package merge

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge/internal/lineagetest"
)

func FuzzParseManifest(f *testing.F) {
	manifest, config := stage("app", "branch", 2, 1).Documents()
	f.Add(manifest, config)
	f.Add([]byte(`{"manifests":[{"mediaType":"application/vnd.buildkit.cacheconfig.v0"}]}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		m, err := ParseManifest(manifest)
		if err != nil {
			return
		}
		m.Config.Digest = digest.FromBytes(config) // or hardly any config would be read
		if l, err := m.Lineage("fuzz", config); err == nil {
			checkMergeOf(t, l)
		}
	})
}

// FuzzLineage merges configs of any content, as cache and as inline cache.
// Digests and blobs are short in the input, so that the fuzzer finds records
// that are one: "#a" stands for a digest.
func FuzzLineage(f *testing.F) {
	f.Add(`{"layers":[{"blob":"#0","parent":-1},{"blob":"#1"}],"records":[{"digest":"#a"},{"digest":"#b"},` +
		`{"digest":"#c","layers":[{"layer":1,"createdAt":"2026-11-01T12:00:00Z"}],"inputs":[[{"link":0},{"selector":"s","link":1}]]}]}`)
	f.Add(`{"layers":[{"blob":"#0","parent":-1},{"blob":"#2","parent":-1}],"records":[{"digest":"#a"},{"digest":"#d"},` +
		`{"digest":"#c","chains":[{"layers":[1,0]}],"inputs":[[{"link":0},{"link":1}]]},{"digest":"#c","inputs":[[{"link":2},{"link":0}]]}]}`)
	f.Fuzz(func(t *testing.T, config string) {
		for _, c := range "abcdef" {
			config = strings.ReplaceAll(config, "#"+string(c), op(string(c)).String())
		}
		for _, c := range "012" {
			config = strings.ReplaceAll(config, "#"+string(c), lineagetest.Blob(string(c)).String())
		}
		m, err := ParseManifest(withConfig(cacheimporttypes.CacheConfigMediaTypeV0, []byte(config)))
		if err != nil {
			t.Fatal(err)
		}
		if l, err := m.Lineage("fuzz", []byte(config)); err == nil {
			checkMergeOf(t, l)
		}
	})
}

func FuzzInline(f *testing.F) {
	f.Add(`{"rootfs":{"diff_ids":["sha256:0","sha256:0","sha256:0"]},"moby.buildkit.cache.v0":"W10="}`)
	f.Add(`{"history":[{"created":"2026-11-01T12:00:00Z"}],"rootfs":{},"moby.buildkit.cache.v0":""}`)
	f.Fuzz(func(t *testing.T, config string) {
		config = strings.ReplaceAll(config, "sha256:0", op("0").String())
		m, err := ParseManifest(withConfig(ocispec.MediaTypeImageConfig, []byte(config)))
		if err != nil {
			t.Fatal(err)
		}
		if l, err := m.Lineage("fuzz", []byte(config)); err == nil {
			checkMergeOf(t, l)
		}
	})
}

// checkMergeOf merges a lineage with another and fails if the outcome cannot
// be imported or is not stable.
func checkMergeOf(t *testing.T, l *Lineage) {
	t.Helper()
	other := lineages(t, copied("stage", "a", 1, "0"))[0]
	m, err := Merge([]*Lineage{l, other}, Options{Keep: []int{1}})
	if err != nil {
		t.Fatal(err)
	}
	checkImportable(t, m, importLimit)
	if m.Stats.DroppedForSize > 0 {
		return
	}
	again := mustMerge(t, Options{}, read(t, m.Manifest, m.Config), l, other)
	if !bytes.Equal(m.Config, again.Config) {
		t.Fatalf("merged again:\n%s\nfirst:\n%s", again.Config, m.Config)
	}
	if _, err := merge([]*Lineage{l, other}, Options{}, 1500); err != nil && !errors.Is(err, ErrEmpty) {
		t.Fatal(err)
	}
}
