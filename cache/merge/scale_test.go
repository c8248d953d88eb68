package merge

import (
	"flag"
	"fmt"
	"testing"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge/internal/lineagetest"
)

// project is the cache of a project with stages of ten steps, each step with
// its layer and every third with a content key, the first half of the stages
// known to all lineages and none of the layers.
func project(lineage string, records int) *cache {
	c := &cache{}
	base := c.Source(op("base"))
	for s := 0; len(c.Config.Records) < records; s++ {
		name := fmt.Sprint("stage", s)
		if 2*s >= records/13 {
			name += lineage
		}
		source, parent := base, -1
		for i := range 10 {
			inputs := []links{{from(source)}}
			if i%3 == 2 {
				key := c.Source(content(fmt.Sprint(lineage, s, i)))
				inputs = append(inputs, links{from(key), files(source, "sha256:aaaa")})
			}
			source = c.Step(op(fmt.Sprint(name, i)), inputs...)
			c.Config.Layers = append(c.Config.Layers, cacheimporttypes.CacheLayer{Blob: lineagetest.Blob(fmt.Sprint(lineage, s, i)), ParentIndex: parent})
			parent = len(c.Config.Layers) - 1
			c.Config.Records[source].Results = []cacheimporttypes.CacheResult{{LayerIndex: parent}}
		}
	}
	return c
}

func BenchmarkMerge(b *testing.B) {
	for _, records := range []int{200, 1000, 2000, 10_000} {
		b.Run(fmt.Sprintf("2x%d", records), func(b *testing.B) {
			all := lineages(b, project("a", records), project("b", records))
			var m *Merged
			for b.Loop() {
				m = mustMerge(b, Options{}, all...)
			}
			b.ReportMetric(float64(m.Stats.Records), "records")
			b.ReportMetric(float64(m.Stats.DroppedForSize), "trimmed")
		})
	}
}

func BenchmarkLineage(b *testing.B) {
	manifest, config := project("a", 2000).Documents()
	b.SetBytes(int64(len(manifest) + len(config)))
	for b.Loop() {
		read(b, manifest, config)
	}
}

var hostileRecords = flag.Int("hostile.records", 5_000, "size of the hostile lineages")

// hostile are lineages of a size that no build has, made to be slow: each
// would take minutes, or the stack, were some part quadratic or recursive.
var hostile = []struct {
	name    string
	lineage func(n int) *Lineage
}{
	{"a deep chain", func(n int) *Lineage {
		l := wide(1)
		l.layers = nil
		for i := range n {
			l.records = append(l.records, record{
				digest: op("step"), inputs: [][]link{{{source: len(l.records) - 1}}}, results: []result{{layer: i}},
			})
			l.layers = append(l.layers, layer{blob: lineagetest.Blob("0"), parent: i - 1})
		}
		return l
	}},
	{"records that are all one", func(n int) *Lineage {
		l := wide(1)
		for range n {
			l.records = append(l.records, record{digest: op("step"), inputs: [][]link{{{source: 0}}}})
		}
		return l
	}},
	{"records that share one input but not the other", func(n int) *Lineage {
		l := wide(n / 2)
		for i := range n / 2 {
			l.records = append(l.records, record{digest: op("step"), inputs: [][]link{{{source: 0}}, {{source: i}}}})
		}
		return l
	}},
	{"records with many links that almost match", func(n int) *Lineage {
		l := wide(600)
		many := func(from int) (links []link) {
			for i := range 150 {
				links = append(links, link{source: from + i})
			}
			return links
		}
		for i := range n / 600 {
			l.records = append(l.records,
				record{digest: op("step"), inputs: [][]link{many(0), {{source: 300 + i%150}}}},
				record{digest: op("step"), inputs: [][]link{{{source: 450 + i%150}}, many(150)}})
		}
		for i := range n / 4 {
			l.records = append(l.records, record{digest: op("step"), inputs: [][]link{{{source: i % 150}}, {{source: 150 + i/150%150}}}})
		}
		return l
	}},
	{"pairs that become one from the last to the first", func(n int) *Lineage {
		// Chains a and b of equal steps on different sources; the last
		// records make the sources of all of them one.
		l := wide(3)
		a, b := 0, 1
		for i := range n / 3 {
			step := op(fmt.Sprint(i))
			l.records = append(l.records,
				record{digest: step, inputs: [][]link{{{source: a}}}},
				record{digest: step, inputs: [][]link{{{source: b}}}})
			a, b = len(l.records)-2, len(l.records)-1
		}
		l.records = append(l.records, record{digest: l.records[3].digest, inputs: [][]link{{{source: 0}, {source: 1}}}})
		return l
	}},
	{"many results in one record", func(n int) *Lineage {
		l := wide(1)
		l.records[0].results = make([]result, n)
		return l
	}},
	{"a loop through all records", func(n int) *Lineage {
		l := wide(1)
		for i := range n {
			l.records = append(l.records, record{digest: op("step"), inputs: [][]link{{{source: 0}, {source: i}}}})
		}
		return l
	}},
}

// wide is a lineage with n sources and one layer.
func wide(n int) *Lineage {
	l := lineageOf(stage("app", "branch", 1, 1))
	l.layers = []layer{{blob: lineagetest.Blob("0"), parent: none}}
	l.blobs[0].Digest = lineagetest.Blob("0")
	l.records = nil
	for i := range n {
		l.records = append(l.records, record{digest: digest.FromString(fmt.Sprint("source", i))})
	}
	l.records[0].results = []result{{layer: 0}}
	return l
}

type panicker struct{}

func (panicker) Helper()                           {}
func (panicker) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func lineageOf(c *cache) *Lineage { return lineages(panicker{}, c)[0] }

func TestHostileLineagesAreMerged(t *testing.T) {
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			l := tt.lineage(*hostileRecords)
			m := mustMerge(t, Options{}, l, l)
			checkImportable(t, m, importLimit)
		})
	}
}

// Records of one operation with many inputs, each from one of three sources,
// have most of their links in common and no two all of them: without a bound,
// what 4 MiB hold takes six seconds and ten times that ten minutes.
func TestTangledRecordsAreGivenUp(t *testing.T) {
	t.Parallel()
	const inputs, sources = 8, 3
	tangled := wide(inputs * sources)
	for n := range 5000 {
		r := record{digest: op("step")}
		for i, digits := 0, n; i < inputs; i, digits = i+1, digits/sources {
			r.inputs = append(r.inputs, []link{{source: i*sources + digits%sources}})
		}
		tangled.records = append(tangled.records, r)
	}
	var real []*Lineage
	for i := range 20 {
		real = append(real, lineages(t, project(fmt.Sprint(i), 500))...)
	}
	for name, all := range map[string][]*Lineage{"tangled": {tangled}, "real": real} {
		var members []member
		for _, l := range all {
			base := len(members)
			for i := range l.records {
				members = append(members, member{record: &l.records[i], base: base})
			}
		}
		if _, ok := unify(members, 10*len(members)); ok != (name == "real") {
			t.Errorf("%s: done: %t", name, ok)
		}
	}
}
