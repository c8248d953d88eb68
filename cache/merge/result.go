package merge

import (
	"slices"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
)

// Result is a result of a cache record: what a step may be satisfied with.
type Result struct {
	Record digest.Digest
	Layers []digest.Digest // the lowest first
}

// Results lists those of a config, record by record. Chains of layers that
// loop are cut off.
func Results(config cacheimporttypes.CacheConfig) []Result {
	var results []Result
	for _, record := range config.Records {
		for _, from := range record.Results {
			results = append(results, Result{record.Digest, layersBelow(config, from.LayerIndex)})
		}
	}
	return results
}

func layersBelow(config cacheimporttypes.CacheConfig, top int) []digest.Digest {
	var layers []digest.Digest
	for top >= 0 && top < len(config.Layers) && len(layers) < len(config.Layers) {
		layers = append(layers, config.Layers[top].Blob)
		top = config.Layers[top].ParentIndex
	}
	slices.Reverse(layers)
	return layers
}
