package merge

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of a layer that BuildKit reads when it imports a result.
const (
	annotationUncompressed = "containerd.io/uncompressed" // the diff ID, without which the layer is of no use
	annotationCreatedAt    = "buildkit/createdat"
)

// imageConfig is what BuildKit's importer reads of an image's config (type
// image in cache/remotecache/import.go).
type imageConfig struct {
	RootFS struct {
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	Cache   []byte `json:"moby.buildkit.cache.v0"`
	History []struct {
		Created    *time.Time `json:"created"`
		EmptyLayer bool       `json:"empty_layer"`
	} `json:"history"`
}

// parseImageConfig makes a lineage of an inline cache, as importInlineCache
// in BuildKit's cache/remotecache/import.go does: the image config carries
// the records alone, their results are prefixes or selections of the image's
// own layers. The creation times of layers are kept; created_by, which the
// importer shows in listings of its store, is not: it is unbounded and would
// count against the limit of the merged manifest.
func (m *Manifest) parseImageConfig(raw []byte) (*Lineage, error) {
	var image imageConfig
	if err := json.Unmarshal(raw, &image); err != nil {
		return nil, err
	}
	if len(image.Cache) == 0 || len(m.layers) == 0 {
		return nil, ErrNoCache
	}
	if len(image.RootFS.DiffIDs) != len(m.layers) {
		return nil, fmt.Errorf("%d diff IDs for %d layers", len(image.RootFS.DiffIDs), len(m.layers))
	}
	var config cacheimporttypes.CacheConfig
	if err := decodeStrict(image.Cache, &config.Records); err != nil {
		return nil, fmt.Errorf("inline cache: %w", err)
	}
	created := image.layerTimes()
	layers := make([]ocispec.Descriptor, len(m.layers))
	for i, d := range m.layers {
		if err := image.RootFS.DiffIDs[i].Validate(); err != nil {
			return nil, fmt.Errorf("diff ID %q: %w", image.RootFS.DiffIDs[i], err)
		}
		annotations := map[string]string{}
		maps.Copy(annotations, d.Annotations)
		annotations[annotationUncompressed] = image.RootFS.DiffIDs[i].String()
		if i < len(created) && created[i] != "" {
			annotations[annotationCreatedAt] = created[i]
		}
		d.Annotations = annotations
		layers[i] = d
		config.Layers = append(config.Layers, cacheimporttypes.CacheLayer{Blob: d.Digest, ParentIndex: i - 1})
	}
	return newLineage(config, layers)
}

// layerTimes are the creation times of the image's layers, "" if unknown:
// those history entries that made a layer.
func (c *imageConfig) layerTimes() []string {
	var times []string
	for _, h := range c.History {
		if h.EmptyLayer {
			continue
		}
		text := ""
		if h.Created != nil {
			if b, err := h.Created.MarshalText(); err == nil {
				text = string(b)
			}
		}
		times = append(times, text)
	}
	return times
}
