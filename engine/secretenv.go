package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
)

// syntaxArg is the build argument that chooses the frontend before the
// Dockerfile's own directive does (moby/buildkit frontend/dockerui/config.go).
const syntaxArg = "BUILDKIT_SYNTAX"

// frontendLimit bounds how long the frontend may take to answer: it may have
// to be pulled, as the build would have to.
const frontendLimit = 5 * time.Minute

// SecretEnv tells whether a RUN of this Dockerfile can have a secret as an
// environment variable (--mount=type=secret,env=, Dockerfile frontend 1.10).
// The frontend that will read the file, built in or the one that the file asks
// for, is given an instruction to plan; nothing runs.
func (e *Engine) SecretEnv(ctx context.Context, o Options, file *stages.File) (bool, error) {
	if e.client == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, frontendLimit)
	defer cancel()
	asked := Options{Dockerfile: "-"}
	if i := slices.IndexFunc(o.BuildArgs, func(arg BuildArg) bool { return arg.Name == syntaxArg }); i >= 0 {
		asked.BuildArgs = o.BuildArgs[i : i+1]
	}
	sender, err := newSender(asked, "", e.docker != nil, e.selection.Config)
	if err != nil {
		return false, err
	}
	source := "FROM scratch\nRUN --mount=type=secret,id=" + stages.ReservedPrefix + "probe,env=PROBE x\n"
	if file.Syntax != "" {
		source = "# syntax=" + file.Syntax + "\n" + source
	}
	opt, err := sender.solveOpt([]byte(source))
	if err != nil {
		return false, err
	}
	opt.Internal = true
	known := false
	// The answer is given inside the build, which then ends well: 20.10 takes
	// seconds to end one that fails.
	_, err = e.client.Build(ctx, opt, product, func(ctx context.Context, gw client.Client) (*client.Result, error) {
		if caps := gw.BuildOpts().LLBCaps; caps.Supports(pb.CapExecSecretEnv) == nil {
			_, err := gw.Solve(ctx, frontendRequest(gw, ""))
			// frontend/dockerfile/instructions/commands_runmount.go
			if known = err == nil; !known && !strings.Contains(err.Error(), "unexpected key 'env'") {
				return nil, err
			}
		}
		return client.NewResult(), nil
	}, ignoreStatus())
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = cause
		}
		return false, fmt.Errorf("ask the Dockerfile frontend what it knows: %w", err)
	}
	return known, nil
}
