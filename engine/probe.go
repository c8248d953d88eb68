package engine

import (
	"context"
	"fmt"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
)

// Capabilities are what an engine was found to do. They are asked for, never
// derived from a version.
type Capabilities struct {
	BuildKit      bool // as opposed to the classic builder
	RegistryCache bool // exports a cache beside the image (mode=max)
}

// probe asks a BuildKit for what it can do.
func (e *Engine) probe(ctx context.Context) error {
	if _, err := e.client.ListWorkers(ctx); err != nil {
		return err
	}
	e.Capabilities = Capabilities{BuildKit: true, RegistryCache: e.exportsCache(ctx)}
	return nil
}

// exportsCache asks for a solve that the daemon turns down before it does
// anything: for an exporter that it does not know, or for one that lacks its
// attributes. It takes about a millisecond; the daemon's own list of
// capabilities claims exporters that are not there.
func (e *Engine) exportsCache(ctx context.Context) bool {
	const exporter = "registry"
	_, err := e.client.ControlClient().Solve(ctx, &controlapi.SolveRequest{
		Ref:        identity.NewID(),
		Definition: &pb.Definition{},
		Cache:      &controlapi.CacheOptions{Exports: []*controlapi.CacheOptionsEntry{{Type: exporter}}},
	})
	return err == nil || !strings.Contains(err.Error(), fmt.Sprintf("unknown cache exporter: %q", exporter))
}
