package cache

import (
	"encoding/json"
	"slices"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
)

// resultKey tells results apart.
func resultKey(r merge.Result) string {
	chain := ""
	for _, layer := range r.Layers {
		chain = chainKey(chain, layer)
	}
	return r.Record.String() + " " + chain
}

// chainKey tells chains of layers apart: that of a layer on top of another
// chain. It is short however long the chain is, of which a cache may have
// thousands.
func chainKey(below string, layer digest.Digest) string {
	return digest.FromString(below + " " + layer.String()).Encoded()
}

// origins tell for each result of a merged cache, by its key, which lineages
// it came from. There may be several: records of one operation differ in
// their inputs, which are no part of the key.
func origins(m *merge.Merged) map[string][]int {
	var config cacheimporttypes.CacheConfig
	if err := json.Unmarshal(m.Config, &config); err != nil {
		return nil // our own document
	}
	chains := make([]string, len(config.Layers))
	for i, layer := range config.Layers { // the merged have parents first
		below := ""
		if layer.ParentIndex >= 0 {
			below = chains[layer.ParentIndex]
		}
		chains[i] = chainKey(below, layer.Blob)
	}
	origins := map[string][]int{}
	sources := m.Sources
	for _, record := range config.Records {
		for _, result := range record.Results { // in the order of the sources
			key := record.Digest.String() + " " + chains[result.LayerIndex]
			if lineage := sources[0].Lineage; !slices.Contains(origins[key], lineage) {
				origins[key] = append(origins[key], lineage)
			}
			sources = sources[1:]
		}
	}
	return origins
}

// From names the cache that the results of a cached step came from: where
// several tags refer to it, the one of the step's stage. It is "" unless all
// of the results are known to be of one cache.
func (v View) From(stage string, results ...merge.Result) string {
	from := -1
	for _, result := range results {
		lineages := v.origins[resultKey(result)]
		if len(lineages) != 1 || from >= 0 && from != lineages[0] {
			return ""
		}
		from = lineages[0]
	}
	if from < 0 {
		return ""
	}
	return v.sources[from].nameFor(stage)
}

// OnlyFrom names, for a step of a stage, the one cache that the view is made
// of: every hit came from there. It is "" if there are several.
func (v View) OnlyFrom(stage string) string {
	if len(v.sources) != 1 {
		return ""
	}
	return v.sources[0].nameFor(stage)
}

// nameFor is the tag of the stage that refers to the source, else any.
func (s *source) nameFor(stage string) string {
	for _, l := range s.lineages {
		if l.Slot.Stage == stage {
			return l.Ref.String()
		}
	}
	return s.name()
}
