package merge

import (
	"errors"
	"fmt"
	"time"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Lineage is the cache that one job exported, checked and ready to merge.
type Lineage struct {
	// Name for messages, such as the ref.
	Name string
	// Digest of the manifest it was read from.
	Digest digest.Digest

	records    []record // sources before dependants
	layers     []layer  // parents before children
	blobs      []ocispec.Descriptor
	importable bool // BuildKit would import the lineage by its own manifest
}

// record is a cache key with what was built for it.
type record struct {
	digest  digest.Digest
	inputs  [][]link
	results []result
}

// link says where an input of a record may come from.
type link struct {
	source   int // a record
	selector string
}

type result struct {
	layer     int // the topmost
	createdAt time.Time
}

type layer struct {
	blob   digest.Digest
	parent int // none for the lowest
}

const none = -1

// newLineage checks what BuildKit's parser checks (parseRecord and
// getRemoteChain in cache/remotecache/v1/parse.go) and refuses the whole
// config as that does, so that a lineage accepted here is one that BuildKit
// could have imported.
func newLineage(config cacheimporttypes.CacheConfig, blobs []ocispec.Descriptor) (*Lineage, error) {
	l := &Lineage{blobs: blobs}
	layerAt, err := l.addLayers(config.Layers)
	if err != nil {
		return nil, err
	}
	recordAt, order, err := orderRecords(config.Records)
	if err != nil {
		return nil, err
	}
	for _, i := range order {
		from := &config.Records[i]
		r := record{digest: from.Digest, inputs: make([][]link, len(from.Inputs))}
		for j, input := range from.Inputs {
			for _, in := range input {
				r.inputs[j] = append(r.inputs[j], link{source: recordAt[in.LinkIndex], selector: in.Selector})
			}
		}
		if r.results, err = l.addResults(from, layerAt); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		l.records = append(l.records, r)
	}
	return l, nil
}

// addLayers returns the new place of each layer.
func (l *Lineage) addLayers(layers []cacheimporttypes.CacheLayer) ([]int, error) {
	for i, from := range layers {
		if err := from.Blob.Validate(); err != nil {
			return nil, fmt.Errorf("layer %d: blob %q: %w", i, from.Blob, err)
		}
		// The parent of the lowest layer is -1; a missing one is 0, for the
		// field is omitted when empty (CacheLayer in types/spec.go).
		if from.ParentIndex < none || from.ParentIndex >= len(layers) {
			return nil, fmt.Errorf("layer %d: no layer %d", i, from.ParentIndex)
		}
	}
	order := topological(len(layers), func(i int, yield func(source int)) {
		if p := layers[i].ParentIndex; p != none {
			yield(p)
		}
	})
	if len(order) < len(layers) {
		return nil, errors.New("looping layers")
	}
	at := make([]int, len(layers))
	for _, i := range order {
		from := layer{blob: layers[i].Blob, parent: none}
		if p := layers[i].ParentIndex; p != none {
			from.parent = at[p]
		}
		at[i] = len(l.layers)
		l.layers = append(l.layers, from)
	}
	return at, nil
}

// orderRecords returns the new place of each record and the records in their
// new order.
func orderRecords(records []cacheimporttypes.CacheRecord) (at, order []int, err error) {
	for i := range records {
		r := &records[i]
		// BuildKit exports no other digests: those of inputs that must not
		// match, "random:...", are left out (CacheChains.Add).
		if err := r.Digest.Validate(); err != nil {
			return nil, nil, fmt.Errorf("record %d: digest %q: %w", i, r.Digest, err)
		}
		for j, input := range r.Inputs {
			if len(input) == 0 {
				return nil, nil, fmt.Errorf("record %d: empty input %d", i, j)
			}
			for _, in := range input {
				if in.LinkIndex < 0 || in.LinkIndex >= len(records) {
					return nil, nil, fmt.Errorf("record %d: no record %d", i, in.LinkIndex)
				}
			}
		}
	}
	order = topological(len(records), func(i int, yield func(source int)) {
		for _, input := range records[i].Inputs {
			for _, in := range input {
				yield(in.LinkIndex)
			}
		}
	})
	if len(order) < len(records) {
		return nil, nil, errors.New("looping records")
	}
	at = make([]int, len(records))
	for to, from := range order {
		at[from] = to
	}
	return at, order, nil
}

// addResults returns the results of a record. A result that lists its layers
// one by one (an inline cache's, whose layers are in another order than the
// image's) gets a chain of layers of its own.
func (l *Lineage) addResults(r *cacheimporttypes.CacheRecord, layerAt []int) ([]result, error) {
	var results []result
	for _, from := range r.Results {
		if from.LayerIndex < 0 || from.LayerIndex >= len(layerAt) {
			return nil, fmt.Errorf("no layer %d", from.LayerIndex)
		}
		results = append(results, result{layer: layerAt[from.LayerIndex], createdAt: from.CreatedAt})
	}
	for _, from := range r.ChainedResults {
		top := none
		for _, i := range from.LayerIndexes {
			if i < 0 || i >= len(layerAt) {
				return nil, fmt.Errorf("no layer %d", i)
			}
			l.layers = append(l.layers, layer{blob: l.layers[layerAt[i]].blob, parent: top})
			top = len(l.layers) - 1
		}
		if top != none { // without layers BuildKit exports no result (marshalRemote in utils.go)
			results = append(results, result{layer: top, createdAt: from.CreatedAt})
		}
	}
	return results, nil
}

// topological orders n things so that each comes after its sources, with
// things in loops, and those that depend on them, left out. It does not
// recurse: a hostile chain may be as deep as the document is long.
func topological(n int, sources func(i int, yield func(source int))) []int {
	waiting := make([]int, n)      // for how many sources
	firstChild := make([]int, n+1) // dependants of i: children[firstChild[i]:firstChild[i+1]]
	for i := range n {
		sources(i, func(s int) { waiting[i]++; firstChild[s+1]++ })
	}
	for i := range n {
		firstChild[i+1] += firstChild[i]
	}
	children := make([]int, firstChild[n])
	next := append([]int(nil), firstChild...)
	for i := range n {
		sources(i, func(s int) { children[next[s]] = i; next[s]++ })
	}
	order := make([]int, 0, n)
	for i := range n {
		if waiting[i] == 0 {
			order = append(order, i)
		}
	}
	for done := 0; done < len(order); done++ {
		i := order[done]
		for _, c := range children[firstChild[i]:firstChild[i+1]] {
			if waiting[c]--; waiting[c] == 0 {
				order = append(order, c)
			}
		}
	}
	return order
}
