package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/network"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/identity"

	bkclient "github.com/moby/buildkit/client"
)

// Reach tells whether a web server answers at a URL, asked from the machine
// that runs the engine: by its own downloader, so that nothing has to be sent
// there. Whatever the server answers will do. The URL is kept by the engine, so
// it must not hold a password. The caller bounds the time.
func (e *Engine) Reach(ctx context.Context, url string) error {
	if e.client == nil {
		return errors.New("the classic builder cannot be asked")
	}
	// The name makes it a download that no other build shares.
	definition, err := llb.HTTP(url, llb.Filename(identity.NewID())).Marshal(ctx)
	if err != nil {
		return fmt.Errorf("reach %s: %w", url, err)
	}
	var unreached error
	// The build itself ends well: 20.10 takes seconds to end one that fails.
	_, err = e.client.Build(ctx, bkclient.SolveOpt{Internal: true}, product, func(ctx context.Context, gw client.Client) (*client.Result, error) {
		unreached = download(ctx, gw, definition)
		return client.NewResult(), nil
	}, ignoreStatus())
	if err == nil && unreached != nil && !answered(unreached) {
		err = unreached
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return fmt.Errorf("reach %s: %w", url, err)
	}
	return nil
}

func download(ctx context.Context, gw client.Client, definition *llb.Definition) error {
	result, err := gw.Solve(ctx, client.SolveRequest{Definition: definition.ToPB()})
	if err != nil {
		return err
	}
	ref, err := result.SingleRef()
	if err != nil {
		return err
	}
	_, err = ref.ReadDir(ctx, client.ReadDirRequest{Path: "/"})
	return err
}

// answered tells the errors of a server that is there: it has no page at the
// address, or a certificate that the steps may trust although the engine does
// not (source/http/source.go).
func answered(err error) bool {
	return strings.Contains(err.Error(), "invalid response status") || strings.Contains(err.Error(), "x509: ")
}

// workerNetwork is the label by which a BuildKit tells where steps run unless
// they ask for another network (moby/buildkit worker/label/label.go).
const workerNetwork = "org.mobyproject.buildkit.worker.network"

// HostFromSteps gives the addresses by which steps reach the machine that runs
// the engine, empty where they are not known.
func (e *Engine) HostFromSteps(ctx context.Context, o Options) []string {
	if o.Network == "host" {
		return []string{"127.0.0.1"}
	}
	if e.docker != nil {
		return e.gateways(ctx)
	}
	workers, err := e.client.ListWorkers(ctx)
	if err != nil {
		return nil
	}
	for _, worker := range workers {
		if worker.Labels[workerNetwork] != "host" {
			return nil
		}
	}
	return []string{"127.0.0.1"}
}

// gateways are the addresses of a Docker Engine's host on the network that
// steps have by default.
func (e *Engine) gateways(ctx context.Context) []string {
	bridge, err := e.docker.NetworkInspect(ctx, "bridge", network.InspectOptions{})
	if err != nil {
		return nil
	}
	var addresses []string
	for _, config := range bridge.IPAM.Config {
		if config.Gateway != "" {
			addresses = append(addresses, config.Gateway)
		}
	}
	return addresses
}

// NamedContexts tells whether the Dockerfile frontend knows --build-context.
func (e *Engine) NamedContexts(ctx context.Context) (bool, error) {
	if e.client == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	known := false
	_, err := e.client.Build(ctx, bkclient.SolveOpt{Internal: true}, product, func(ctx context.Context, gw client.Client) (*client.Result, error) {
		var err error
		known, err = knowsNamedContexts(ctx, gw)
		// A newer frontend, which has nothing against the question, looks for
		// a Dockerfile before it answers: there is none.
		if err != nil && strings.Contains(err.Error(), "failed to read dockerfile") {
			known, err = true, nil
		}
		return client.NewResult(), err
	}, ignoreStatus())
	if err != nil {
		return false, fmt.Errorf("ask %s what it can do: %w", e.Name, err)
	}
	return known, nil
}
