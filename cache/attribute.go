package cache

import (
	"slices"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/opencontainers/go-digest"
)

// From names the cache that the results of a cached step came from, by record
// and topmost layer: where several tags refer to it, the one of the step's
// stage. It is "" unless all of the results are known to be of one cache.
func (v View) From(stage string, results ...[2]digest.Digest) string {
	var from *source
	for _, result := range results {
		i := slices.IndexFunc(v.results, func(known merge.Source) bool {
			return known.Record == result[0] && known.Blob == result[1]
		})
		if i < 0 {
			return ""
		}
		s := v.sources[v.results[i].Lineage]
		if from != nil && from != s {
			return ""
		}
		from = s
	}
	if from == nil {
		return ""
	}
	return from.nameFor(stage)
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
