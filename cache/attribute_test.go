package cache

import (
	"encoding/json"
	"runtime"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
)

// A cache of the size that is imported may hold a chain of thousands of layers
// with a result on each: what is kept of each is not the whole chain.
func TestOriginsOfALongChain(t *testing.T) {
	const long = 3000
	blob := digest.FromString("layer")
	var config cacheimporttypes.CacheConfig
	var merged merge.Merged
	for i := range long {
		config.Layers = append(config.Layers, cacheimporttypes.CacheLayer{Blob: blob, ParentIndex: i - 1})
		config.Records = append(config.Records, cacheimporttypes.CacheRecord{
			Digest: blob, Results: []cacheimporttypes.CacheResult{{LayerIndex: i, CreatedAt: time.Unix(1, 0)}},
		})
		merged.Sources = append(merged.Sources, merge.Source{Record: blob, Blob: blob, Lineage: i % 2})
	}
	var err error
	if merged.Config, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	found := origins(&merged)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 100<<20 {
		t.Errorf("%d bytes were allocated for a config of %d", used, len(merged.Config))
	}
	if len(found) != long {
		t.Fatalf("%d results, want %d", len(found), long)
	}
	for _, n := range []int{1, long} {
		result := merge.Result{Record: blob}
		for range n {
			result.Layers = append(result.Layers, blob)
		}
		if got := found[resultKey(result)]; len(got) != 1 || got[0] != (n-1)%2 {
			t.Errorf("the result of %d layers is from %v", n, got)
		}
	}
}
