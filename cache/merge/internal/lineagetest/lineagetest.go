// Package lineagetest builds caches as BuildKit exports them, for tests.
package lineagetest

import (
	"encoding/json"
	"fmt"
	"time"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Op is the record digest of an operation's first output, Content that of a
// content key (rootKey in BuildKit's solver/cachemanager.go).
func Op(name string) digest.Digest      { return digest.FromString(name + "@0") }
func Content(name string) digest.Digest { return digest.FromString(name + "@-1") }

// Blob is the digest of the blob of that name.
func Blob(name string) digest.Digest { return digest.FromString("blob " + name) }

// Cache is a cache config in the making. The zero value is empty.
type Cache struct {
	Config   cacheimporttypes.CacheConfig
	Unlisted map[digest.Digest]bool // blobs to leave out of the manifest
}

// Link is one link of an input.
type Link = cacheimporttypes.CacheInput

// From makes a link without selector, Files one with.
func From(record int) Link                   { return Link{LinkIndex: record} }
func Files(record int, selector string) Link { return Link{LinkIndex: record, Selector: selector} }

// Source adds a record without inputs and returns its index.
func (c *Cache) Source(d digest.Digest) int { return c.Step(d) }

// Step adds a record and returns its index.
func (c *Cache) Step(d digest.Digest, inputs ...[]Link) int {
	c.Config.Records = append(c.Config.Records, cacheimporttypes.CacheRecord{Digest: d, Inputs: inputs})
	return len(c.Config.Records) - 1
}

// Result gives a record a result made at a time in seconds, with the layers
// of the blobs named, the lowest first.
func (c *Cache) Result(record int, at int64, blobs ...string) {
	parent := -1
	for _, b := range blobs {
		parent = c.layer(Blob(b), parent)
	}
	r := &c.Config.Records[record]
	r.Results = append(r.Results, cacheimporttypes.CacheResult{LayerIndex: parent, CreatedAt: time.Unix(at, 0).UTC()})
}

func (c *Cache) layer(blob digest.Digest, parent int) int {
	for i, l := range c.Config.Layers {
		if l.Blob == blob && l.ParentIndex == parent {
			return i
		}
	}
	c.Config.Layers = append(c.Config.Layers, cacheimporttypes.CacheLayer{Blob: blob, ParentIndex: parent})
	return len(c.Config.Layers) - 1
}

// Descriptors are those the manifest lists, as BuildKit's exporter does: one
// a layer, even if the blob is the same.
func (c *Cache) Descriptors() []ocispec.Descriptor {
	list := []ocispec.Descriptor{}
	for _, l := range c.Config.Layers {
		if !c.Unlisted[l.Blob] {
			list = append(list, Descriptor(l.Blob))
		}
	}
	return list
}

// Descriptor describes a layer blob.
func Descriptor(blob digest.Digest) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip,
		Digest:    blob,
		Size:      1234,
		Annotations: map[string]string{
			"buildkit/createdat":         "2026-11-01T12:00:00Z",
			"containerd.io/uncompressed": digest.FromString("diff of " + blob.String()).String(),
		},
	}
}

// Documents returns the cache's manifest and config.
func (c *Cache) Documents() (manifest, config []byte) {
	config = JSON(c.Config)
	manifest = JSON(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ConfigDescriptor(cacheimporttypes.CacheConfigMediaTypeV0, config),
		Layers:    c.Descriptors(),
	})
	return manifest, config
}

// ConfigDescriptor describes a config blob.
func ConfigDescriptor(mediaType string, config []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(config), Size: int64(len(config))}
}

// JSON encodes v, which must be encodable.
func JSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("lineagetest: %v", err))
	}
	return raw
}
