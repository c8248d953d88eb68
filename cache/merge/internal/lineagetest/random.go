package lineagetest

import (
	"fmt"
	"time"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"
)

// Random draws a cache from so few digests that caches share records, agree
// and disagree on results, and unify to loops. Some blobs may be unlisted.
func Random(t *rapid.T) *Cache {
	c := &Cache{Unlisted: map[digest.Digest]bool{}}
	for range rapid.IntRange(1, 6).Draw(t, "layers") {
		blob := Blob(fmt.Sprint(rapid.IntRange(0, 7).Draw(t, "blob")))
		c.layer(blob, rapid.IntRange(-1, len(c.Config.Layers)-1).Draw(t, "parent"))
	}
	for i := range rapid.IntRange(1, 12).Draw(t, "records") {
		switch op := rapid.IntRange(-4, 3).Draw(t, "op"); {
		case op < -1 && i > 0:
			c.Step(Op("run"+fmt.Sprint(op)), links(t, i))
		case op == -1 && i > 0:
			c.Step(Op("copy"), links(t, i), links(t, i))
		default:
			c.Source(Content(fmt.Sprint(op)))
		}
		for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "results") {
			randomResult(t, c, i)
		}
	}
	for _, b := range rapid.SliceOfN(rapid.IntRange(0, 30), 0, 2).Draw(t, "unlisted") {
		c.Unlisted[Blob(fmt.Sprint(b))] = true
	}
	return c
}

func links(t *rapid.T, before int) []Link {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Link {
		return Files(rapid.IntRange(0, before-1).Draw(t, "source"), rapid.SampledFrom([]string{"", "", "files"}).Draw(t, "selector"))
	}), 1, 3, func(l Link) Link { return l }).Draw(t, "links")
}

func randomResult(t *rapid.T, c *Cache, record int) {
	at := time.Unix(rapid.Int64Range(1, 5).Draw(t, "createdAt"), 0).UTC()
	layer := rapid.IntRange(0, len(c.Config.Layers)-1)
	r := &c.Config.Records[record]
	if rapid.IntRange(0, 4).Draw(t, "chained") == 0 {
		r.ChainedResults = append(r.ChainedResults, cacheimporttypes.ChainedResult{
			LayerIndexes: rapid.SliceOfN(layer, 0, 3).Draw(t, "chain"), CreatedAt: at,
		})
		return
	}
	r.Results = append(r.Results, cacheimporttypes.CacheResult{LayerIndex: layer.Draw(t, "layer"), CreatedAt: at})
}
