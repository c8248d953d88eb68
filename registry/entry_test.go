package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func child(name string, platform *ocispec.Platform) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest,
		Digest:    digest.FromString(name),
		Size:      int64(len(name)),
		Platform:  platform,
	}
}

func sampleEntry() Entry {
	cache := child("cache", nil)
	cache.Annotations = map[string]string{annotationKind: kindCache}
	return Entry{
		Images: []ocispec.Descriptor{
			child("amd64", &ocispec.Platform{OS: "linux", Architecture: "amd64"}),
			child("arm64", &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}),
		},
		Cache:  &cache,
		Others: []ocispec.Descriptor{child("attestation", &ocispec.Platform{OS: "unknown", Architecture: "unknown"})},
		Annotations: Annotations{
			Level: LevelBranch, Branch: "feat/x", Stage: "builder", Scope: "linux/amd64",
			Trust: "own", ToolVersion: "1.2.3", Created: time.Date(2026, 11, 23, 4, 5, 6, 0, time.UTC),
		},
	}
}

// The golden file is what stands in people's registries: a change of it needs
// a new EntrySchema.
func TestEntryFormat(t *testing.T) {
	t.Parallel()
	raw, err := sampleEntry().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	golden := filepath.Join("testdata", "entry.json")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestEntryIsReadAsWritten(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"feat/x", "ветка", `"<&>`}), rapid.StringMatching(`[!-~]{1,20}`))
	children := func(kind string, platform *ocispec.Platform) *rapid.Generator[[]ocispec.Descriptor] {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ocispec.Descriptor {
			return child(kind+rapid.String().Draw(t, "name"), platform)
		}), 0, 3)
	}
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{
			Images: children("image", &ocispec.Platform{OS: "linux", Architecture: "amd64"}).Draw(t, "images"),
			Others: children("other", nil).Draw(t, "others"),
			Annotations: Annotations{
				Level:  rapid.SampledFrom([]string{LevelBranch, LevelUnprefixed}).Draw(t, "level"),
				Branch: "b" + text.Draw(t, "branch"), Stage: text.Draw(t, "stage"), Final: rapid.Bool().Draw(t, "final"),
				Scope: text.Draw(t, "scope"), Trust: text.Draw(t, "trust"), Times: text.Draw(t, "times"), Conditions: text.Draw(t, "conditions"), ToolVersion: text.Draw(t, "version"),
			},
		}
		if rapid.Bool().Draw(t, "dated") {
			e.Annotations.Created = time.Unix(rapid.Int64Range(1, 1e10).Draw(t, "created"), 0).UTC()
		}
		if rapid.Bool().Draw(t, "has a cache") {
			cache := child("cache", nil)
			cache.Annotations = map[string]string{annotationKind: kindCache, "x": "y"}
			e.Cache = &cache
		}
		raw, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Classify(raw, ocispec.MediaTypeImageIndex)
		if err != nil || got.Kind != KindEntry || got.Foreign() {
			t.Fatalf("Classify = %v, %v", got.Kind, err)
		}
		if len(e.Images) == 0 {
			e.Images = nil
		}
		if len(e.Others) == 0 {
			e.Others = nil
		}
		if diff := cmp.Diff(&e, got.Entry); diff != "" {
			t.Fatal(diff)
		}
		if again, err := got.Entry.Encode(); err != nil || !bytes.Equal(raw, again) {
			t.Fatalf("encoded again: %s, %v", again, err)
		}
	})
}

// The cache may be described as BuildKit reported it, with a platform.
func TestEntryMarksTheCache(t *testing.T) {
	t.Parallel()
	cache := child("cache", &ocispec.Platform{OS: "linux", Architecture: "amd64"})
	e := Entry{Cache: &cache, Annotations: Annotations{Level: LevelUnprefixed}}
	raw, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Classify(raw, ocispec.MediaTypeImageIndex)
	if err != nil {
		t.Fatal(err)
	}
	if got.Entry.Cache == nil || got.Entry.Cache.Platform != nil || len(got.Entry.Images) != 0 {
		t.Errorf("got %+v", got.Entry)
	}
	if cache.Platform == nil || cache.Annotations != nil {
		t.Error("Encode changed its input")
	}
}

func TestEntryRefusesWhatItCannotHold(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Entry){
		"no level":                   func(e *Entry) { e.Annotations.Level = "" },
		"no branch":                  func(e *Entry) { e.Annotations.Branch = "" },
		"terminal escape":            func(e *Entry) { e.Annotations.Branch = "a\x1b[31m" },
		"line feed":                  func(e *Entry) { e.Annotations.Stage = "a\n::error::" },
		"not UTF-8":                  func(e *Entry) { e.Annotations.Scope = "\xff" },
		"too long":                   func(e *Entry) { e.Annotations.Branch = strings.Repeat("x", MaxAnnotation+1) },
		"image without a platform":   func(e *Entry) { e.Images[0].Platform = nil },
		"image of an unknown kind":   func(e *Entry) { e.Images[0].MediaType = "x" },
		"cache without a digest":     func(e *Entry) { e.Cache.Digest = "" },
		"cache without a media type": func(e *Entry) { e.Cache.MediaType = "" },
		"negative size":              func(e *Entry) { e.Others[0].Size = -1 },
		"year 10000":                 func(e *Entry) { e.Annotations.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		e := sampleEntry()
		change(&e)
		if _, err := e.Encode(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
