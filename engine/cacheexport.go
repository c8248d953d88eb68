package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/containerd/platforms"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ExportCache implements Build. What a resumed build turns out to have lost is
// left out.
func (b *solveBuild) ExportCache(ctx context.Context, ref string, stages ...int) (ocispec.Descriptor, error) {
	for {
		parts := b.complete(stages)
		if len(parts) == 0 {
			return ocispec.Descriptor{}, ErrNothingComplete
		}
		desc, err := b.exportOnce(ctx, ref, parts)
		if !b.forget(err, append(parts, b.imageChain()...)) {
			return desc, err
		}
	}
}

// exportOnce writes the cache of some edges and of what is below them.
func (b *solveBuild) exportOnce(ctx context.Context, ref string, parts []part) (ocispec.Descriptor, error) {
	if err := b.compressImage(ctx); err != nil {
		return ocispec.Descriptor{}, &ExportError{"export cache to " + ref, err}
	}
	opt := bkclient.SolveOpt{CacheExports: []bkclient.CacheOptionsEntry{{Type: "registry", Attrs: map[string]string{
		"ref": ref, "mode": "max", "image-manifest": "true", "oci-mediatypes": "true",
		"compression": cacheCompression,
	}}}}
	response, err := b.exportParts(ctx, parts, opt)
	if err != nil {
		return ocispec.Descriptor{}, &ExportError{"export cache to " + ref, err}
	}
	var desc ocispec.Descriptor
	if err := json.Unmarshal([]byte(response["cache.manifest"]), &desc); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("export cache to %s: read the engine's answer: %w", ref, err)
	}
	return desc, nil
}

// compressImage compresses the layers of the target's image that are complete
// as those of an image, before a cache export makes them layers that old
// engines cannot run: a layer keeps the form it was first given. It is work
// that delivering the image would do.
func (b *solveBuild) compressImage(ctx context.Context) error {
	parts := b.imageChain()
	if len(parts) == 0 {
		return nil
	}
	b.compressing.Lock()
	defer b.compressing.Unlock()
	top := fmt.Sprint(edges(parts))
	if b.compressed == top {
		return nil
	}
	// An image that goes nowhere.
	opt := bkclient.SolveOpt{Exports: []bkclient.ExportEntry{{
		Type:  bkclient.ExporterImage,
		Attrs: map[string]string{"push": "false", "store": "false", "oci-mediatypes": "true", "compression": imageCompression},
	}}}
	if _, err := b.exportParts(ctx, parts, opt); err != nil {
		return fmt.Errorf("compress image: %w", err)
	}
	b.compressed = top
	return nil
}

func edges(parts []part) []edge {
	var edges []edge
	for _, p := range parts {
		edges = append(edges, p.edge)
	}
	return edges
}

// exportParts hands completed edges to exporters, as one result.
func (b *solveBuild) exportParts(ctx context.Context, parts []part, opt bkclient.SolveOpt) (map[string]string, error) {
	var definitions []*pb.Definition
	for _, p := range parts {
		definitions = append(definitions, p.graph.sub(p.edge))
	}
	return b.concurrently(ctx, nil, opt, evaluateAll(definitions))
}

// evaluateAll is a build of several definitions. Their refs in one result
// give one cache manifest for all of them; exporters want such refs listed as
// platforms.
func evaluateAll(definitions []*pb.Definition) client.BuildFunc {
	return func(ctx context.Context, gw client.Client) (*client.Result, error) {
		result, listed := client.NewResult(), exptypes.Platforms{}
		for i, definition := range definitions {
			id := strconv.Itoa(i)
			solved, err := gw.Solve(ctx, client.SolveRequest{Definition: definition, Evaluate: true})
			if err != nil {
				return nil, err
			}
			result.AddRef(id, solved.Ref)
			listed.Platforms = append(listed.Platforms, exptypes.Platform{ID: id, Platform: platforms.DefaultSpec()})
		}
		meta, err := json.Marshal(listed)
		result.AddMeta(exptypes.ExporterPlatformsKey, meta)
		return result, err
	}
}
