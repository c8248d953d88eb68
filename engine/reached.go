package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Reacher is a Build that can tell what its cached steps were satisfied with.
type Reacher interface {
	// Reached lists by line of the Dockerfile the results of its cached
	// step, one for each platform. Steps for which it is not certain are left
	// out.
	Reached(ctx context.Context) (map[int][]merge.Result, error)
}

// Reached implements Reacher. The daemon is asked to export the cache of what
// was cached to a store that claims to have every layer already: nothing is
// transferred but the records.
func (b *solveBuild) Reached(ctx context.Context) (map[int][]merge.Result, error) {
	select {
	case <-b.planned:
	default:
		return nil, ErrNothingComplete
	}
	hits := b.topmostHits()
	if len(hits) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reachLimit, errors.New("took too long"))
	defer cancel()
	config, err := b.exportRecords(ctx, hits)
	if err != nil {
		return nil, fmt.Errorf("ask what the cached steps are: %w", err)
	}
	return b.identify(config), nil
}

// reachLimit bounds how long the daemon may take to tell its records. It takes
// a few dozen milliseconds unless it has to compress a layer first.
const reachLimit = 5 * time.Second

func (b *solveBuild) hit(g platformGraph, vertex digest.Digest) bool {
	status, _ := b.tracker.status(g.graph, vertex, b.ended())
	return status == Cached
}

// topmostHits are the definitions of the cached edges that no other needs.
func (b *solveBuild) topmostHits() []*pb.Definition {
	var hits []*pb.Definition
	for _, g := range b.graphs {
		seen := map[edge]bool{}
		for _, stage := range slices.Sorted(maps.Keys(g.ends)) {
			g.graph.walk(g.ends[stage], func(e edge) bool {
				if g.graph.fetched(e.vertex) || !b.hit(g, e.vertex) {
					return true
				}
				if !seen[e] {
					seen[e] = true
					hits = append(hits, g.graph.sub(e))
				}
				return false
			})
		}
	}
	return hits
}

// exportRecords is the config of the cache of some edges and of all that lies
// below them.
func (b *solveBuild) exportRecords(ctx context.Context, hits []*pb.Definition) (cacheimporttypes.CacheConfig, error) {
	var config cacheimporttypes.CacheConfig
	dir, err := os.MkdirTemp("", "docker-build-remote-cache-records-")
	if err != nil {
		return config, err
	}
	defer os.RemoveAll(dir)
	store, err := local.NewStore(filepath.Join(dir, "store"))
	if err != nil {
		return config, err
	}
	opt, err := b.sender.solveOpt(nil)
	if err != nil {
		return config, err
	}
	shared, err := session.NewSession(ctx, opt.SharedKey)
	if err != nil {
		return config, err
	}
	defer shared.Close()
	shared.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource(opt.LocalMounts), nil))
	shared.Allow(sessioncontent.NewAttachable(map[string]content.Store{"local:" + dir: recordsOnly{store}}))
	for _, attachable := range opt.Session {
		shared.Allow(attachable)
	}
	go shared.Run(ctx, b.engine.client.Dialer())

	// BuildKit's client would open a store at dest by itself: with a session
	// of ours, it does not offer that.
	solve := bkclient.SolveOpt{
		SharedSession: shared, SessionPreInitialized: true, AllowedEntitlements: opt.AllowedEntitlements,
		CacheExports: []bkclient.CacheOptionsEntry{{Type: "local", Attrs: map[string]string{"dest": dir, "mode": "min"}}},
	}
	response, err := b.engine.client.Build(ctx, solve, product, evaluateAll(hits), ignoreStatus())
	if err != nil {
		return config, err
	}
	var root ocispec.Descriptor
	if err := json.Unmarshal([]byte(response.ExporterResponse["cache.manifest"]), &root); err != nil {
		return config, fmt.Errorf("read the engine's answer: %w", err)
	}
	var manifest ocispec.Manifest
	if err := readJSON(ctx, store, root, &manifest); err != nil {
		return config, err
	}
	return config, readJSON(ctx, store, manifest.Config, &config)
}

func readJSON(ctx context.Context, store content.Store, d ocispec.Descriptor, into any) error {
	raw, err := content.ReadBlob(ctx, store, d)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func ignoreStatus() chan *bkclient.SolveStatus {
	stream := make(chan *bkclient.SolveStatus)
	go func() {
		for range stream {
		}
	}()
	return stream
}

// recordsOnly takes a cache's documents and claims to have its layers. Layers
// are written under names made of their kind and digest (MakeRefKey in
// containerd's core/remotes), documents under their digest.
type recordsOnly struct{ content.Store }

// Writer implements content.Store.
func (r recordsOnly) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var wanted content.WriterOpts
	for _, opt := range opts {
		if err := opt(&wanted); err != nil {
			return nil, err
		}
	}
	if wanted.Ref != wanted.Desc.Digest.String() {
		return nil, fmt.Errorf("layer %s: %w", wanted.Desc.Digest, errdefs.ErrAlreadyExists)
	}
	return r.Store.Writer(ctx, opts...)
}

// identify finds the results of the cached steps among exported records. A
// record is known by its operation alone: where a step could be meant by
// several, or several steps by one, it is left out.
func (b *solveBuild) identify(config cacheimporttypes.CacheConfig) map[int][]merge.Result {
	results := map[digest.Digest][][]digest.Digest{} // chains of layers by record
	for _, r := range merge.Results(config) {
		same := func(other []digest.Digest) bool { return slices.Equal(other, r.Layers) }
		if !slices.ContainsFunc(results[r.Record], same) {
			results[r.Record] = append(results[r.Record], r.Layers)
		}
	}
	vertices := map[digest.Digest]int{} // by record
	ends := map[int][]digest.Digest{}   // records by line
	for _, g := range b.graphs {
		end := map[int]digest.Digest{}
		b.eachHit(g, func(line int, record digest.Digest) {
			vertices[record]++
			end[line] = record // the last of a step's vertices is its outcome
		})
		for line, record := range end {
			ends[line] = append(ends[line], record)
		}
	}
	identified := map[int][]merge.Result{}
	for line, records := range ends {
		for _, record := range records {
			chains := results[record]
			if record == "" || vertices[record] != 1 || len(chains) != 1 {
				delete(identified, line)
				break
			}
			identified[line] = append(identified[line], merge.Result{Record: record, Layers: chains[0]})
		}
	}
	return identified
}

// eachHit visits the vertices of cached steps, inputs first: the step's first
// line and the vertex's record, "" if that cannot be told.
func (b *solveBuild) eachHit(g platformGraph, visit func(line int, record digest.Digest)) {
	for _, vertex := range g.graph.order {
		if g.graph.fetched(vertex) || !b.hit(g, vertex) {
			continue
		}
		record, _ := g.graph.recordDigest(edge{vertex, 0})
		visited := map[int]bool{}
		for _, line := range g.graph.lines(vertex, dockerfileName) {
			if _, in, ok := instructionAt(b.request.File, line); ok && !visited[in.Lines.First] {
				visited[in.Lines.First] = true
				visit(in.Lines.First, record)
			}
		}
	}
}
