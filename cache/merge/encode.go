package merge

import (
	"encoding/json"
	"fmt"
	"slices"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// encode writes the documents: the manifest in the form that BuildKit's
// exporter writes with image-manifest=true, each blob listed once.
func (m *merging) encode(entries []entry) (*Merged, error) {
	to := &Merged{Same: none, Stats: m.stats}
	w := layerWriter{table: m.table, at: map[int]int{}, listed: map[digest.Digest]bool{}}
	config := cacheimporttypes.CacheConfig{Records: make([]cacheimporttypes.CacheRecord, 0, len(entries))}
	for i := range entries {
		e := &entries[i]
		w.write(e.chain)
		config.Records = append(config.Records, encodeRecord(e, w.at[e.chain]))
		if e.chain != none {
			to.Sources = append(to.Sources, Source{Record: e.digest, Blob: m.table.chains[e.chain].blob, Lineage: e.lineage})
		}
	}
	config.Layers, to.Layers = w.layers, w.blobs
	to.Stats.Records, to.Stats.Layers = len(config.Records), len(config.Layers)

	var err error
	if to.Config, err = json.Marshal(config); err != nil {
		return nil, fmt.Errorf("encode cache config: %w", err)
	}
	to.ConfigDescriptor = ocispec.Descriptor{
		MediaType: cacheimporttypes.CacheConfigMediaTypeV0,
		Digest:    digest.FromBytes(to.Config),
		Size:      int64(len(to.Config)),
	}
	if to.Manifest, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    to.ConfigDescriptor,
		Layers:    to.Layers,
	}); err != nil {
		return nil, fmt.Errorf("encode cache manifest: %w", err)
	}
	to.Digest = digest.FromBytes(to.Manifest)
	return to, nil
}

// layerWriter lists layers and blobs in the order in which chains need them.
type layerWriter struct {
	table  *chainTable
	at     map[int]int // per chain, its topmost layer
	listed map[digest.Digest]bool
	layers []cacheimporttypes.CacheLayer
	blobs  []ocispec.Descriptor
}

func (w *layerWriter) write(top int) {
	var added []int
	for c := top; c != none; c = w.table.chains[c].parent {
		if _, ok := w.at[c]; ok {
			break
		}
		added = append(added, c)
	}
	for _, c := range slices.Backward(added) {
		l := cacheimporttypes.CacheLayer{Blob: w.table.chains[c].blob, ParentIndex: none}
		if p := w.table.chains[c].parent; p != none {
			l.ParentIndex = w.at[p]
		}
		w.at[c] = len(w.layers)
		w.layers = append(w.layers, l)
		if !w.listed[l.Blob] {
			w.listed[l.Blob] = true
			w.blobs = append(w.blobs, w.table.descriptors[l.Blob])
		}
	}
}

func encodeRecord(e *entry, layer int) cacheimporttypes.CacheRecord {
	r := cacheimporttypes.CacheRecord{Digest: e.digest, Inputs: make([][]cacheimporttypes.CacheInput, len(e.inputs))}
	for input, links := range e.inputs {
		r.Inputs[input] = make([]cacheimporttypes.CacheInput, len(links))
		for i, l := range links {
			r.Inputs[input][i] = cacheimporttypes.CacheInput{LinkIndex: l.source, Selector: l.selector}
		}
	}
	if e.chain != none {
		r.Results = []cacheimporttypes.CacheResult{{LayerIndex: layer, CreatedAt: e.createdAt}}
	}
	return r
}
