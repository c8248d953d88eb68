package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
)

// checkInlineOptions refuses what a BuildKit cannot do that writes to an image
// store of one platform without manifests of its own. It would drop most of it
// without a word.
func checkInlineOptions(o Options, engine string) error {
	unsupported := func(option, remedy string) error {
		return &UnsupportedError{Option: option, Engine: engine, Remedy: remedy}
	}
	const other = "use a BuildKit builder, or a Docker Engine with the containerd image store"
	switch {
	case len(o.Platforms) > 1:
		return unsupported("--platform with more than one platform", other)
	case len(o.Attestations) > 0:
		return unsupported("--attest, --provenance or --sbom", other)
	case len(o.Annotations) > 0:
		return unsupported("--annotation", other)
	}
	return checkInlineOutputs(o.Outputs, engine)
}

func checkInlineOutputs(outputs []Output, engine string) error {
	for _, o := range outputs {
		if o.Type != bkclient.ExporterLocal && o.Type != bkclient.ExporterTar && !toEngine(o) {
			return &UnsupportedError{Option: "--output type=" + o.Type, Engine: engine, Remedy: "use --push, --load, or an output of type local or tar"}
		}
	}
	return nil
}

// askTimeout bounds the question for an engine's capabilities.
const askTimeout = 30 * time.Second

// checkInline refuses further options that this very engine may be too old
// for. It is asked only where there are any.
func (e *Engine) checkInline(ctx context.Context, r Request) error {
	o := r.Options
	if err := checkInlineOptions(o, e.Name); err != nil {
		return err
	}
	needed := []struct {
		option string
		given  bool
		cap    apicaps.CapID
	}{
		{"--ulimit", len(o.Ulimits) > 0, pb.CapExecMetaUlimit},
		{"--shm-size", o.ShmSize > 0, pb.CapExecMountTmpfsSize},
		{"--cgroup-parent", o.CgroupParent != "", pb.CapExecMetaCgroupParent},
	}
	asked := len(o.BuildContexts) > 0
	for _, need := range needed {
		asked = asked || need.given
	}
	if !asked {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var refused *UnsupportedError // an error that went through the engine is text only
	_, err := e.client.Build(ctx, bkclient.SolveOpt{}, product, func(ctx context.Context, gw client.Client) (*client.Result, error) {
		for _, need := range needed {
			caps := gw.BuildOpts().LLBCaps
			if need.given && caps.Supports(need.cap) != nil {
				refused = &UnsupportedError{Option: need.option, Engine: e.Name, Remedy: "use a newer engine"}
				return nil, refused
			}
		}
		if len(o.BuildContexts) > 0 && r.File.Syntax == "" {
			known, err := knowsNamedContexts(ctx, gw)
			if err != nil {
				return nil, err
			}
			if !known {
				refused = &UnsupportedError{Option: "--build-context", Engine: e.Name, Remedy: "use a newer engine, or a newer frontend with # syntax=docker/dockerfile:1"}
				return nil, refused
			}
		}
		return client.NewResult(), nil
	}, nil)
	if refused != nil {
		return refused
	}
	if err != nil {
		return fmt.Errorf("ask %s what it can do: %w", e.Name, err)
	}
	return nil
}

// knowsNamedContexts asks the engine's own Dockerfile frontend, which ignores
// named contexts if it does not know them (moby/buildkit
// frontend/dockerfile/builder/caps.go).
func knowsNamedContexts(ctx context.Context, gw client.Client) (bool, error) {
	_, err := gw.Solve(ctx, client.SolveRequest{Frontend: dockerfileFrontend, FrontendOpt: map[string]string{
		"frontend.caps": "moby.buildkit.frontend.contexts",
		"requestid":     "frontend.subrequests.describe",
	}})
	if err != nil && strings.Contains(err.Error(), "unsupported frontend capability") {
		return false, nil
	}
	return err == nil, err
}
