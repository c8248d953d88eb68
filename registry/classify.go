package registry

import (
	"encoding/json"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mediaTypeCacheConfig is the type of the records of a BuildKit cache
// (cache/remotecache/v1/types of moby/buildkit).
const mediaTypeCacheConfig = "application/vnd.buildkit.cacheconfig.v0"

// Kind is what stands at a tag.
type Kind int

// The kinds of content.
const (
	// KindEntry: written by this tool, an Entry.
	KindEntry Kind = iota + 1
	// KindIndex: a foreign image index.
	KindIndex
	// KindImage: a foreign image. It may have a cache inline.
	KindImage
	// KindCache: a bare BuildKit cache, which an engine can import: a
	// manifest with image-manifest=true, the default since BuildKit 0.21, or
	// the index of blobs that was written before.
	KindCache
)

// String names the kind, for messages.
func (k Kind) String() string {
	switch k {
	case KindEntry:
		return "cache entry"
	case KindIndex:
		return "image index"
	case KindImage:
		return "image"
	case KindCache:
		return "buildkit cache"
	default:
		return "unknown"
	}
}

// Content is a classified manifest.
type Content struct {
	Kind Kind
	// Entry is set for KindEntry.
	Entry *Entry
	// Children are those of KindIndex.
	Children []ocispec.Descriptor
	// Config describes the config blob: the records of KindCache, the image
	// config of KindImage.
	Config ocispec.Descriptor
	// Layers are the blobs of KindCache and KindImage, in the order of the
	// manifest.
	Layers []ocispec.Descriptor
}

// Foreign reports whether the content was not written by this tool as its
// own: nothing that is foreign may be replaced by a cache.
func (c Content) Foreign() bool { return c.Kind != KindEntry }

// Classify tells what a manifest is. What cannot be used is ErrInvalid; a
// *SchemaError among those was written by this tool nevertheless.
func Classify(raw []byte, mediaType string) (Content, error) {
	if len(raw) > MaxManifestSize {
		return Content{}, invalidf("the manifest is larger than %d bytes", MaxManifestSize)
	}
	declared, err := manifestType(raw, mediaType)
	if err != nil {
		return Content{}, err
	}
	var document struct {
		SchemaVersion int                  `json:"schemaVersion"`
		Config        *ocispec.Descriptor  `json:"config"`
		Layers        []ocispec.Descriptor `json:"layers"`
		Manifests     []ocispec.Descriptor `json:"manifests"`
		Annotations   map[string]string    `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return Content{}, invalidf("the manifest is not valid: %v", err)
	}
	if document.SchemaVersion != 2 {
		return Content{}, invalidf("the manifest is of schema version %d, not 2", document.SchemaVersion)
	}
	if (document.Config != nil || document.Layers != nil) && document.Manifests != nil {
		// Readers would disagree about what this is (CVE-2021-41190).
		return Content{}, invalidf("the manifest is an image and an index at once")
	}
	switch declared {
	case ocispec.MediaTypeImageIndex, mediaTypeDockerList:
		return classifyIndex(ocispec.Index{Manifests: document.Manifests, Annotations: document.Annotations})
	default:
		if document.Config == nil {
			return Content{}, invalidf("the manifest has no config")
		}
		return classifyManifest(*document.Config, document.Layers)
	}
}

func classifyIndex(index ocispec.Index) (Content, error) {
	for _, child := range index.Manifests {
		if err := checkDescriptor(child); err != nil {
			return Content{}, err
		}
	}
	if _, ours := index.Annotations[annotationSchema]; ours {
		entry, err := decodeEntry(index)
		if err != nil {
			return Content{}, err
		}
		return Content{Kind: KindEntry, Entry: entry}, nil
	}
	cache := Content{Kind: KindCache}
	for _, child := range index.Manifests {
		if child.MediaType == mediaTypeCacheConfig {
			cache.Config = child // the last one counts, as for BuildKit
		} else {
			cache.Layers = append(cache.Layers, child)
		}
	}
	if cache.Config.Digest != "" {
		return cache, nil
	}
	return Content{Kind: KindIndex, Children: index.Manifests}, nil
}

func classifyManifest(config ocispec.Descriptor, layers []ocispec.Descriptor) (Content, error) {
	for _, blob := range append([]ocispec.Descriptor{config}, layers...) {
		if err := checkDescriptor(blob); err != nil {
			return Content{}, err
		}
	}
	kind := KindImage
	if config.MediaType == mediaTypeCacheConfig {
		kind = KindCache
	}
	return Content{Kind: kind, Config: config, Layers: layers}, nil
}
