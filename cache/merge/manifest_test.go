package merge

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge/internal/lineagetest"
)

// withConfig returns a manifest with a config of the media type, and layers
// named 0, 1 and 2.
func withConfig(mediaType string, config []byte) []byte {
	return lineagetest.JSON(ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    lineagetest.ConfigDescriptor(mediaType, config),
		Layers: []ocispec.Descriptor{
			lineagetest.Descriptor(lineagetest.Blob("0")),
			lineagetest.Descriptor(lineagetest.Blob("1")),
			lineagetest.Descriptor(lineagetest.Blob("2")),
		},
	})
}

func TestParseManifestRefuses(t *testing.T) {
	descriptor := string(lineagetest.JSON(lineagetest.ConfigDescriptor(cacheimporttypes.CacheConfigMediaTypeV0, nil)))
	for _, tt := range []struct{ name, raw, want string }{
		{"no JSON", "<html>", "invalid character"},
		{"data after the document", `{"config":` + descriptor + `}{}`, "after top-level value"},
		{"too large", strings.Repeat(" ", maxInput+1), "more than"},
		{"no config", `{"layers":[]}`, "without config"},
		{"no digest", `{"config":{}}`, "digest"},
		{"a digest that is a path", `{"config":{"digest":"sha256:../../x"}}`, "digest"},
		{"a layer without digest", `{"config":` + descriptor + `,"layers":[{}]}`, "digest"},
		{"negative size", `{"config":` + descriptor + `,"layers":[` + strings.Replace(descriptor, `"size":0`, `"size":-1`, 1) + `]}`, "negative size"},
		{"manifest and index", `{"config":` + descriptor + `,"manifests":[]}`, "both"},
		{"index with a manifest's fields", `{"mediaType":"` + ocispec.MediaTypeImageIndex + `","layers":[],"manifests":[]}`, "both"},
		{"index without children", `{"mediaType":"` + ocispec.MediaTypeImageIndex + `"}`, "without manifests"},
		{"two configs", `{"manifests":[` + descriptor + `,` + descriptor + `]}`, "several"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseManifest([]byte(tt.raw)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestManifestsWithoutCache(t *testing.T) {
	image := []byte(`{"rootfs":{"diff_ids":[]}}`)
	for name, raw := range map[string][]byte{
		"image":             withConfig(ocispec.MediaTypeImageConfig, image),
		"Docker image":      withConfig(dockerImageConfig, image),
		"artifact":          withConfig("application/vnd.example", image),
		"index of images":   lineagetest.JSON(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest}}}),
		"unknown manifest":  []byte(`{"mediaType":"application/vnd.example"}`),
		"Docker's old list": []byte(`{"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}`),
	} {
		m, err := ParseManifest(raw)
		if err == nil {
			_, err = m.Lineage("ref", image)
		}
		if !errors.Is(err, ErrNoCache) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestIndexIsReadAsManifest(t *testing.T) {
	c := stage("app", "branch", 2, 1)
	manifest, config := c.Documents()
	for _, mediaType := range []string{ocispec.MediaTypeImageIndex, dockerManifestList, ""} {
		index := lineagetest.JSON(ocispec.Index{
			MediaType: mediaType,
			Manifests: append(c.Descriptors(), lineagetest.ConfigDescriptor(cacheimporttypes.CacheConfigMediaTypeV0, config)),
		})
		got := mustMerge(t, Options{}, read(t, index, config))
		want := mustMerge(t, Options{}, read(t, manifest, config))
		if got.Digest != want.Digest || got.Same != 0 {
			t.Errorf("media type %q: got %s, want %s", mediaType, got.Manifest, want.Manifest)
		}
	}
}

func TestLineageRefuses(t *testing.T) {
	d := string(lineagetest.Op("x"))
	b := string(lineagetest.Blob("0"))
	for _, tt := range []struct{ name, config, want string }{
		{"no JSON", `<html>`, "invalid character"},
		{"data after the document", `{} {}`, "after the document"},
		{"unknown field", `{"records":[],"version":2}`, "unknown field"},
		{"unknown field of a record", `{"records":[{"digest":"` + d + `","weight":1}]}`, "unknown field"},
		{"record without digest", `{"records":[{}]}`, "digest"},
		{"random digest", `{"records":[{"digest":"random:` + d[7:] + `"}]}`, "digest"},
		{"empty input", `{"records":[{"digest":"` + d + `","inputs":[[]]}]}`, "empty input"},
		{"link to nothing", `{"records":[{"digest":"` + d + `","inputs":[[{"link":1}]]}]}`, "no record 1"},
		{"link before the first", `{"records":[{"digest":"` + d + `","inputs":[[{"link":-1}]]}]}`, "no record -1"},
		{"link to itself", `{"records":[{"digest":"` + d + `","inputs":[[{"link":0}]]}]}`, "looping records"},
		{"layer without blob", `{"layers":[{"parent":-1}]}`, "blob"},
		{"layer with a missing parent, which is itself", `{"layers":[{"blob":"` + b + `"}]}`, "looping layers"},
		{"parent that is not there", `{"layers":[{"blob":"` + b + `","parent":1}]}`, "no layer 1"},
		{"parent before none", `{"layers":[{"blob":"` + b + `","parent":-2}]}`, "no layer -2"},
		{"result without layer", `{"records":[{"digest":"` + d + `","layers":[{"layer":0}]}]}`, "no layer 0"},
		{"chain without layer", `{"records":[{"digest":"` + d + `","chains":[{"layers":[0]}]}]}`, "no layer 0"},
		{"time that is none", `{"records":[{"digest":"` + d + `","layers":[{"layer":0,"createdAt":"yesterday"}]}]}`, "yesterday"},
		{"too large", strings.Repeat(" ", maxInput+1), "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseManifest(withConfig(cacheimporttypes.CacheConfigMediaTypeV0, []byte(tt.config)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Lineage("app:master", []byte(tt.config)); err == nil ||
				!strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "app:master") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLineageRefusesAnotherConfig(t *testing.T) {
	m, err := ParseManifest(withConfig(cacheimporttypes.CacheConfigMediaTypeV0, []byte(`{}`)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Lineage("ref", []byte(`{ }`)); err == nil {
		t.Error("a config with another digest is accepted")
	}
}

// inlineImage is the config of an image whose history has an empty layer.
func inlineImage(t *testing.T, records []cacheimporttypes.CacheRecord) []byte {
	t.Helper()
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	return lineagetest.JSON(map[string]any{
		"architecture":           "amd64",
		"rootfs":                 map[string]any{"type": "layers", "diff_ids": []digest.Digest{digest.FromString("d0"), digest.FromString("d1"), digest.FromString("d2")}},
		"moby.buildkit.cache.v0": lineagetest.JSON(records),
		"history": []map[string]any{
			{"created": at, "created_by": "COPY"},
			{"created": at.Add(time.Minute), "created_by": "ENV A=b", "empty_layer": true},
			{"created": at.Add(time.Hour), "created_by": "RUN"},
			{"created_by": "a step without time"},
		},
	})
}

func TestInlineCache(t *testing.T) {
	config := inlineImage(t, []cacheimporttypes.CacheRecord{
		{Digest: op("base")},
		{Digest: op("copy"), Inputs: [][]lineagetest.Link{{from(0)}}, Results: []cacheimporttypes.CacheResult{{LayerIndex: 1}}},
		{Digest: op("test"), Inputs: [][]lineagetest.Link{{from(0)}}, ChainedResults: []cacheimporttypes.ChainedResult{{LayerIndexes: []int{2, 0}}}},
	})
	m := mustMerge(t, Options{}, read(t, withConfig(ocispec.MediaTypeImageConfig, config), config))
	checkImportable(t, m, importLimit)
	got := decoded(t, m)

	chains := map[digest.Digest]string{}
	for _, r := range got.Records {
		for _, result := range r.Results {
			chains[r.Digest] = chainOf(got.Layers, result.LayerIndex)
		}
	}
	b := func(i int) string { return lineagetest.Blob(fmt.Sprint(i)).String() }
	if diff := cmp.Diff(map[digest.Digest]string{op("copy"): b(1) + " " + b(0), op("test"): b(0) + " " + b(2)}, chains); diff != "" {
		t.Errorf("chains: %s", diff)
	}
	annotations := map[digest.Digest]map[string]string{}
	for _, d := range m.Layers {
		annotations[d.Digest] = d.Annotations
	}
	want := map[digest.Digest]map[string]string{}
	for i, created := range []string{"2026-11-01T12:00:00Z", "2026-11-01T13:00:00Z", "2026-11-01T12:00:00Z"} {
		want[lineagetest.Blob(fmt.Sprint(i))] = map[string]string{
			"containerd.io/uncompressed": digest.FromString(fmt.Sprint("d", i)).String(),
			"buildkit/createdat":         created, // the last is the descriptor's own
		}
	}
	if diff := cmp.Diff(want, annotations); diff != "" {
		t.Errorf("annotations: %s", diff)
	}
	if m.Same != none {
		t.Error("an inline cache is taken for a cache manifest")
	}
}

func TestInlineCacheRefuses(t *testing.T) {
	valid := inlineImage(t, []cacheimporttypes.CacheRecord{{Digest: op("base")}})
	change := func(edit func(map[string]any)) []byte {
		var image map[string]any
		if err := json.Unmarshal(valid, &image); err != nil {
			t.Fatal(err)
		}
		edit(image)
		return lineagetest.JSON(image)
	}
	for _, tt := range []struct {
		name, want string
		config     []byte
	}{
		{"fewer diff IDs than layers", "0 diff IDs for 3 layers", change(func(i map[string]any) { i["rootfs"] = map[string]any{} })},
		{"diff ID that is none", "diff ID", change(func(i map[string]any) { i["rootfs"] = map[string]any{"diff_ids": []string{"a", "b", "c"}} })},
		{"cache that is no JSON", "inline cache", change(func(i map[string]any) { i["moby.buildkit.cache.v0"] = []byte("x") })},
		{"result beyond the image", "no layer 3", change(func(i map[string]any) {
			i["moby.buildkit.cache.v0"] = lineagetest.JSON([]cacheimporttypes.CacheRecord{{Digest: op("base"), Results: []cacheimporttypes.CacheResult{{LayerIndex: 3}}}})
		})},
	} {
		m, err := ParseManifest(withConfig(ocispec.MediaTypeImageConfig, tt.config))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Lineage("ref", tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
