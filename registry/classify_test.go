package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blob is a descriptor as JSON.
func blob(mediaType, rest string) string {
	return `{"mediaType":"` + mediaType + `","digest":"` + digest.FromString("x").String() + `","size":1` + rest + `}`
}

var (
	anImage      = blob(ocispec.MediaTypeImageManifest, `,"platform":{"os":"linux","architecture":"amd64"}`)
	anIndexHead  = `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `",`
	anEntryHead  = anIndexHead + `"annotations":{"` + annotationSchema + `":"1","` + annotationLevel + `":"unprefixed","` + annotationFinal + `":"false"},`
	aCacheChild  = blob(ocispec.MediaTypeImageManifest, `,"annotations":{"`+annotationKind+`":"cache"}`)
	aCacheConfig = blob(mediaTypeCacheConfig, "")
	aLayer       = blob(ocispec.MediaTypeImageLayerGzip, "")
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, mediaType, raw string
		want                 Kind
		check                func(Content) bool
	}{
		{
			"entry", ocispec.MediaTypeImageIndex, anEntryHead + `"manifests":[` + anImage + `,` + aCacheChild + `]}`,
			KindEntry, func(c Content) bool { return len(c.Entry.Images) == 1 && c.Entry.Cache != nil },
		},
		{
			"entry with children of a later version", ocispec.MediaTypeImageIndex,
			anEntryHead + `"manifests":[` + blob("application/x", "") + `,` + blob(ocispec.MediaTypeImageIndex, "") + `],"later":1}`,
			KindEntry, func(c Content) bool { return len(c.Entry.Others) == 2 },
		},
		{
			"image index", ocispec.MediaTypeImageIndex, anIndexHead + `"manifests":[` + anImage + `]}`,
			KindIndex, func(c Content) bool { return len(c.Children) == 1 },
		},
		{
			"manifest list", mediaTypeDockerList, `{"schemaVersion":2,"manifests":[` + anImage + `]}`,
			KindIndex, func(c Content) bool { return len(c.Children) == 1 },
		},
		{"empty index", ocispec.MediaTypeImageIndex, anIndexHead + `"manifests":[]}`, KindIndex, nil},
		{
			"image", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":` + blob(ocispec.MediaTypeImageConfig, "") + `,"layers":[` + aLayer + `]}`,
			KindImage, func(c Content) bool { return c.Config.MediaType == ocispec.MediaTypeImageConfig && len(c.Layers) == 1 },
		},
		{
			"docker image", mediaTypeDockerManifest, `{"schemaVersion":2,"config":` + blob("application/vnd.docker.container.image.v1+json", "") + `,"layers":[]}`,
			KindImage, nil,
		},
		{
			"cache manifest", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":` + aCacheConfig + `,"layers":[` + aLayer + `]}`,
			KindCache, func(c Content) bool { return c.Config.MediaType == mediaTypeCacheConfig && len(c.Layers) == 1 },
		},
		{
			"cache index", ocispec.MediaTypeImageIndex, anIndexHead + `"manifests":[` + aLayer + `,` + aCacheConfig + `]}`,
			KindCache, func(c Content) bool { return c.Config.MediaType == mediaTypeCacheConfig && len(c.Layers) == 1 },
		},
	} {
		got, err := Classify([]byte(tc.raw), tc.mediaType)
		if err != nil || got.Kind != tc.want || got.Foreign() != (tc.want != KindEntry) || tc.check != nil && !tc.check(got) {
			t.Errorf("%s: %v %+v, %v", tc.name, got.Kind, got, err)
		}
	}
}

func TestClassifyRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, mediaType, raw string }{
		{"nothing", ocispec.MediaTypeImageIndex, ""},
		{"null", ocispec.MediaTypeImageManifest, "null"},
		{"truncated", ocispec.MediaTypeImageIndex, anEntryHead + `"manifests":[` + anImage},
		{"something behind it", ocispec.MediaTypeImageIndex, anEntryHead + `"manifests":[]} {}`},
		{"foreign type", "text/html", `{"schemaVersion":2}`},
		{"no type", "", `{"schemaVersion":2,"manifests":[]}`},
		{"schema 1", ocispec.MediaTypeImageManifest, `{"schemaVersion":1,"config":` + aCacheConfig + `}`},
		{"image and index", ocispec.MediaTypeImageIndex, anIndexHead + `"manifests":[` + anImage + `],"config":` + aCacheConfig + `}`},
		{"manifest without a config", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"layers":[]}`},
		{"index called a manifest", ocispec.MediaTypeImageManifest, anIndexHead + `"manifests":[]}`},
		{"child without a digest", ocispec.MediaTypeImageIndex, anIndexHead + `"manifests":[{"mediaType":"x","size":1}]}`},
		{"child with a path for a digest", ocispec.MediaTypeImageIndex, anIndexHead + `"manifests":[{"mediaType":"x","size":1,"digest":"sha256:../../x"}]}`},
		{"negative size", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":` + strings.Replace(aCacheConfig, `"size":1`, `"size":-1`, 1) + `}`},
		{"two caches", ocispec.MediaTypeImageIndex, anEntryHead + `"manifests":[` + aCacheChild + `,` + aCacheChild + `]}`},
		{"unknown level", ocispec.MediaTypeImageIndex, strings.Replace(anEntryHead, "unprefixed", "other", 1) + `"manifests":[]}`},
		{"neither final nor not", ocispec.MediaTypeImageIndex, strings.Replace(anEntryHead, `"false"`, `"maybe"`, 1) + `"manifests":[]}`},
		{"bad time", ocispec.MediaTypeImageIndex, strings.Replace(anEntryHead, `"annotations":{`, `"annotations":{"org.opencontainers.image.created":"today",`, 1) + `"manifests":[]}`},
		{"control character", ocispec.MediaTypeImageIndex, strings.Replace(anEntryHead, `"annotations":{`, `"annotations":{"`+annotationBranch+`":"\u001b[2J",`, 1) + `"manifests":[]}`},
		{"too large", ocispec.MediaTypeImageIndex, strings.Repeat(" ", MaxManifestSize) + anEntryHead + `"manifests":[]}`},
	} {
		if got, err := Classify([]byte(tc.raw), tc.mediaType); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
}

// What a newer version wrote is told apart from a foreign image: it is ours.
func TestClassifyOfALaterSchema(t *testing.T) {
	t.Parallel()
	raw := strings.Replace(anEntryHead, `schema":"1"`, `schema":"2"`, 1) + `"manifests":[]}`
	_, err := Classify([]byte(raw), ocispec.MediaTypeImageIndex)
	var later *SchemaError
	if !errors.As(err, &later) || later.Schema != "2" || !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// Whatever a registry answers is classified or refused, and an entry that is
// read can be written again.
func FuzzClassify(f *testing.F) {
	entry, err := sampleEntry().Encode()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(entry),
		anEntryHead + `"manifests":[` + anImage + `,` + aCacheChild + `]}`,
		anIndexHead + `"manifests":[` + aLayer + `,` + aCacheConfig + `]}`,
		`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":` + aCacheConfig + `,"layers":[` + aLayer + `]}`,
		`null`,
	} {
		f.Add([]byte(seed), ocispec.MediaTypeImageIndex)
		f.Add([]byte(seed), "application/json")
	}
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		content, err := Classify(raw, mediaType)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%v is no ErrInvalid", err)
			}
			return
		}
		if content.Kind != KindEntry {
			return
		}
		again, err := content.Entry.Encode()
		if err != nil {
			t.Fatalf("encode what was read: %v", err)
		}
		if content, err = Classify(again, ocispec.MediaTypeImageIndex); err != nil || content.Kind != KindEntry {
			t.Fatalf("read what was written again: %v, %v", content.Kind, err)
		}
	})
}
