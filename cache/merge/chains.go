package merge

import (
	"cmp"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// chain is a result's layers: a layer on top of another chain. Interned, so
// that equal chains of different lineages are one number, and the chains of a
// linear stage share their lower layers.
type chain struct {
	parent int // none for the lowest layer
	blob   digest.Digest
}

// chainTable holds the usable chains of all lineages.
type chainTable struct {
	chains      []chain // parents before children
	ids         map[chain]int
	descriptors map[digest.Digest]ocispec.Descriptor // verbatim, of the first lineage that lists the blob
}

// add returns for each layer of the lineage the chain that ends with it, or
// none if the lineage's manifest does not list a blob of it, or one is
// missing from the registry.
func (t *chainTable) add(l *Lineage, missing map[digest.Digest]bool) []int {
	listed := make(map[digest.Digest]bool, len(l.blobs))
	for _, d := range l.blobs {
		listed[d.Digest] = true
		if _, ok := t.descriptors[d.Digest]; !ok {
			t.descriptors[d.Digest] = d
		}
	}
	at := make([]int, len(l.layers))
	for i, layer := range l.layers {
		at[i] = none
		if !listed[layer.blob] || missing[layer.blob] {
			continue
		}
		c := chain{parent: none, blob: layer.blob}
		if layer.parent != none {
			if c.parent = at[layer.parent]; c.parent == none {
				continue
			}
		}
		id, ok := t.ids[c]
		if !ok {
			id = len(t.chains)
			t.chains = append(t.chains, c)
			t.ids[c] = id
		}
		at[i] = id
	}
	return at
}

// compare orders chains by their blobs from the top, so that the order does
// not depend on the order of lineages.
func (t *chainTable) compare(a, b int) int {
	for a != b {
		if a == none || b == none {
			return cmp.Compare(a, b)
		}
		if c := cmp.Compare(t.chains[a].blob, t.chains[b].blob); c != 0 {
			return c
		}
		a, b = t.chains[a].parent, t.chains[b].parent
	}
	return 0
}
