package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// hits tells from the records of the imported cache what of a definition will
// be found in it, as BuildKit finds it: by an operation's own digest and by
// the records of its inputs. It says so only where that is certain: what is
// not known of a source's content, or left open by several records, is no hit.
type hits struct {
	graph   *graph
	records []cacheimporttypes.CacheRecord
	byKey   map[digest.Digest][]int
	// cached tells of a vertex that has been evaluated that it was a hit.
	cached func(digest.Digest) bool
	// content are the records of sources that are known by their content.
	content map[edge][]digest.Digest
}

func newHits(g *graph, records []cacheimporttypes.CacheRecord, cached func(digest.Digest) bool) *hits {
	h := &hits{graph: g, records: records, byKey: map[digest.Digest][]int{}, cached: cached}
	for i, record := range records {
		h.byKey[record.Digest] = append(h.byKey[record.Digest], i)
	}
	return h
}

// possible tells whether a step can be a hit at all: there is a result of the
// same operation, and it may be used (--no-cache).
func (h *hits) possible(vertex digest.Digest) bool {
	key, ok := h.graph.recordDigest(edge{vertex, 0})
	return ok && !h.graph.definition.Metadata[string(vertex)].GetIgnoreCache() && slices.ContainsFunc(h.byKey[key], h.hasResult)
}

// bare tells whether a step is known by its key alone: what needs it may be a
// hit, but evaluating the step itself would run it.
func (h *hits) bare(vertex digest.Digest) bool {
	key, ok := h.graph.recordDigest(edge{vertex, 0})
	return ok && len(h.byKey[key]) > 0 && !slices.ContainsFunc(h.byKey[key], h.hasResult)
}

func (h *hits) hasResult(record int) bool {
	return len(h.records[record].Results)+len(h.records[record].ChainedResults) > 0
}

// certain tells, once the inputs of a step have been evaluated, whether it
// will be a hit: whichever of their records the inputs are, there is a result
// that follows from it.
func (h *hits) certain(vertex digest.Digest) bool {
	key, _ := h.graph.recordDigest(edge{vertex, 0})
	if !h.possible(vertex) {
		return false
	}
	found := map[edge][]int{}
	for i, in := range h.graph.ops[vertex].Inputs {
		from := h.find(inputEdge(in), found)
		if len(from) == 0 {
			return false
		}
		for _, record := range from {
			follows := func(result int) bool { return h.hasResult(result) && h.links(result, i, record) }
			if !slices.ContainsFunc(h.byKey[key], follows) {
				return false
			}
		}
	}
	return true
}

// find lists the records that an edge may be; found is what is known already.
func (h *hits) find(e edge, found map[edge][]int) []int {
	if known, ok := found[e]; ok {
		return known
	}
	found[e] = nil
	op := h.graph.ops[e.vertex]
	key, ok := h.graph.recordDigest(e)
	if source := op.GetSource(); source != nil {
		key, ok = imageKey(source, op.GetPlatform())
	}
	var records []int
	for _, content := range h.content[e] {
		records = append(records, h.byKey[content]...)
	}
	if !ok {
		found[e] = records
		return records
	}
	for _, record := range h.byKey[key] {
		if h.fits(record, op, found) || len(op.GetInputs()) > 0 && h.cached(e.vertex) && h.fitsButContent(record, op, found) {
			records = append(records, record)
		}
	}
	found[e] = records
	return records
}

// fits tells whether each input of an operation is one of a record's.
func (h *hits) fits(record int, op *pb.Op, found map[edge][]int) bool {
	for i, in := range op.GetInputs() {
		if !h.linksAny(record, i, h.find(inputEdge(in), found)) {
			return false
		}
	}
	return true
}

// fitsButContent is fits where inputs may be found by their content, of which
// nothing is known.
func (h *hits) fitsButContent(record int, op *pb.Op, found map[edge][]int) bool {
	inputs := h.records[record].Inputs
	for i, in := range op.GetInputs() {
		byContent := i < len(inputs) && slices.ContainsFunc(inputs[i], func(link cacheimporttypes.CacheInput) bool {
			return link.LinkIndex >= 0 && link.LinkIndex < len(h.records) && len(h.records[link.LinkIndex].Inputs) == 0
		})
		if !byContent && !h.linksAny(record, i, h.find(inputEdge(in), found)) {
			return false
		}
	}
	return true
}

func (h *hits) linksAny(record, input int, to []int) bool {
	return slices.ContainsFunc(to, func(one int) bool { return h.links(record, input, one) })
}

func (h *hits) links(record, input, to int) bool {
	inputs := h.records[record].Inputs
	return input < len(inputs) && slices.ContainsFunc(inputs[input], func(link cacheimporttypes.CacheInput) bool { return link.LinkIndex == to })
}

// imageKey is the digest of the cache record of an image that is named by its
// digest, as the frontend names them (mainManifestKey in
// source/containerimage/pull.go, CacheMap in solver/llbsolver/ops/source.go).
// False for other sources.
func imageKey(source *pb.SourceOp, on *pb.Platform) (digest.Digest, bool) {
	ref, ok := strings.CutPrefix(source.GetIdentifier(), "docker-image://")
	_, manifest, pinned := strings.Cut(ref, "@")
	d, err := digest.Parse(manifest)
	if !ok || !pinned || err != nil || on == nil {
		return "", false
	}
	raw, err := json.Marshal(struct {
		Digest     digest.Digest
		OS         string
		Arch       string
		Variant    string   `json:",omitempty"`
		OSVersion  string   `json:",omitempty"`
		OSFeatures []string `json:",omitempty"`
		Limit      *int     `json:",omitempty"`
	}{Digest: d, OS: on.OS, Arch: on.Architecture, Variant: on.Variant, OSVersion: on.OSVersion, OSFeatures: on.OSFeatures})
	if err != nil {
		return "", false
	}
	of := digest.FromString("buildkit.source.v0:" + digest.FromBytes(raw).String())
	return digest.FromString(fmt.Sprintf("%s@0", of)), true
}
