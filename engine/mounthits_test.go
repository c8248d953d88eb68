package engine

import (
	"strings"
	"testing"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/moby/buildkit/client/llb"
	"github.com/opencontainers/go-digest"
)

// hitGraph is a base image, a copy from the context, a step on both and a step
// with a cache mount on that, which mounts a file of the context too.
func hitGraph(t *testing.T, image, command string) *graph {
	t.Helper()
	base := llb.Image("docker.io/library/base@"+digest.FromString(image).String(), llb.LinuxAmd64)
	context := llb.Local("context", llb.SessionID("one"))
	copied := base.File(llb.Copy(context, "/deps", "/deps"), llb.WithCustomName("copy"))
	step := copied.Run(llb.Args([]string{command}), llb.WithCustomName("step"), llb.LinuxAmd64).Root()
	run := step.Run(llb.Args([]string{"fetch"}), llb.WithCustomName("mounting"), llb.LinuxAmd64,
		llb.AddMount("/file", context, llb.SourcePath("/file"), llb.Readonly),
		llb.AddMount("/cache", llb.Scratch(), llb.AsPersistentCacheDir("/pkg", llb.CacheMountShared)))
	return defined(t, run.Root())
}

func (g *graph) named(t *testing.T, name string) digest.Digest {
	t.Helper()
	for _, vertex := range g.order {
		if g.name(vertex) == name {
			return vertex
		}
	}
	t.Fatalf("no vertex is called %q", name)
	return ""
}

// recordsOf are the records of a cache in which a graph was built once, with
// the digests of what the two uses of the context held.
func recordsOf(t *testing.T, g *graph, copied, mounted digest.Digest) []cacheimporttypes.CacheRecord {
	t.Helper()
	result := []cacheimporttypes.CacheResult{{LayerIndex: 0}}
	link := func(to ...int) []cacheimporttypes.CacheInput {
		var inputs []cacheimporttypes.CacheInput
		for _, i := range to {
			inputs = append(inputs, cacheimporttypes.CacheInput{LinkIndex: i})
		}
		return inputs
	}
	key := func(name string) digest.Digest {
		d, ok := g.recordDigest(edge{g.named(t, name), 0})
		if !ok {
			t.Fatalf("%q has no record", name)
		}
		return d
	}
	var image digest.Digest
	for _, vertex := range g.order {
		if d, ok := imageKey(g.ops[vertex].GetSource(), g.ops[vertex].GetPlatform()); ok {
			image = d
		}
	}
	return []cacheimporttypes.CacheRecord{
		{Digest: image, Results: result},
		{Digest: copied},
		{Digest: key("copy"), Results: result, Inputs: [][]cacheimporttypes.CacheInput{link(0), link(1)}},
		{Digest: key("step"), Results: result, Inputs: [][]cacheimporttypes.CacheInput{link(2)}},
		{Digest: mounted},
		{Digest: key("mounting"), Results: result, Inputs: [][]cacheimporttypes.CacheInput{link(3), link(4)}},
	}
}

func TestHitsAreCertain(t *testing.T) {
	t.Parallel()
	copied, mounted := digest.FromString("copied"), digest.FromString("mounted")
	for name, c := range map[string]struct {
		graph   *graph
		records func(r []cacheimporttypes.CacheRecord) []cacheimporttypes.CacheRecord
		ran     string // vertices that were no hits
		content digest.Digest
		want    bool
	}{
		"all as it was":                   {want: true},
		"another file is mounted":         {content: digest.FromString("other")},
		"what is mounted is not known":    {content: "-"},
		"another file was copied":         {ran: "copy"},
		"another base image":              {graph: hitGraph(t, "newer", "step"), ran: "copy step"},
		"another step before":             {graph: hitGraph(t, "base", "other"), ran: "step"},
		"another step before, but it hit": {graph: hitGraph(t, "base", "other")},
		"the result is lost":              {records: func(r []cacheimporttypes.CacheRecord) []cacheimporttypes.CacheRecord { r[5].Results = nil; return r }},
		"nothing is imported":             {records: func([]cacheimporttypes.CacheRecord) []cacheimporttypes.CacheRecord { return nil }},
		"a record that links nowhere": {records: func(r []cacheimporttypes.CacheRecord) []cacheimporttypes.CacheRecord {
			r[5].Inputs[0][0].LinkIndex = 99
			return r
		}},
		"a record with too few inputs": {records: func(r []cacheimporttypes.CacheRecord) []cacheimporttypes.CacheRecord {
			r[5].Inputs = r[5].Inputs[:1]
			return r
		}},
		"a result in one variant of two": {records: func(r []cacheimporttypes.CacheRecord) []cacheimporttypes.CacheRecord {
			// The copy was a hit with one of two contents: which is not known,
			// and the step with the mount has a result for one only.
			return append(r,
				cacheimporttypes.CacheRecord{Digest: digest.FromString("copied too")},
				cacheimporttypes.CacheRecord{Digest: r[2].Digest, Results: r[2].Results, Inputs: [][]cacheimporttypes.CacheInput{{{LinkIndex: 0}}, {{LinkIndex: 6}}}},
				cacheimporttypes.CacheRecord{Digest: r[3].Digest, Results: r[3].Results, Inputs: [][]cacheimporttypes.CacheInput{{{LinkIndex: 7}}}})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := c.graph
			if g == nil {
				g = hitGraph(t, "base", "step")
			}
			records := recordsOf(t, hitGraph(t, "base", "step"), copied, mounted)
			if c.records != nil {
				records = c.records(records)
			}
			h := newHits(g, records, func(v digest.Digest) bool { return !strings.Contains(c.ran, g.name(v)) })
			content := c.content
			if content == "" {
				content = mounted
			}
			vertex := g.named(t, "mounting")
			for _, in := range g.ops[vertex].Inputs {
				if e := inputEdge(in); g.fetched(e.vertex) {
					h.content = map[edge][]digest.Digest{e: {content}}
				}
			}
			if got := h.certain(vertex); got != c.want {
				t.Errorf("certain: %t, want %t", got, c.want)
			}
		})
	}
}

// A result is as good without those it was made from, and none is taken with
// --no-cache.
func TestHitsWithoutResults(t *testing.T) {
	t.Parallel()
	g := hitGraph(t, "base", "step")
	vertex := g.named(t, "mounting")
	records := recordsOf(t, g, digest.FromString("copied"), digest.FromString("mounted"))
	h := newHits(g, records, func(digest.Digest) bool { return true })
	if !h.possible(vertex) {
		t.Fatal("no hit is possible")
	}
	for _, in := range g.ops[vertex].Inputs {
		if e := inputEdge(in); g.fetched(e.vertex) {
			h.content = map[edge][]digest.Digest{e: {digest.FromString("mounted")}}
		}
	}
	before := g.named(t, "step")
	if h.bare(before) {
		t.Error("a step with a result is taken for one without")
	}
	h.records[3].Results = nil
	if !h.bare(before) || !h.certain(vertex) {
		t.Error("a step whose result is lost is evaluated for one that has its own")
	}
	g.definition.Metadata[string(vertex)].IgnoreCache = true
	if h.possible(vertex) || h.certain(vertex) {
		t.Error("a hit is expected of a step that takes none")
	}
}
