package engine

import (
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
)

// checkClassicOptions refuses what the classic builder cannot do.
func checkClassicOptions(o Options, engine string) error {
	unsupported := func(option string) error {
		return &UnsupportedError{Option: option, Engine: engine, Remedy: "use a builder with BuildKit, without DOCKER_BUILDKIT=0"}
	}
	for _, refused := range []struct {
		option string
		given  bool
	}{
		{"--secret", len(o.Secrets) > 0},
		{"--ssh", len(o.SSH) > 0},
		{"--build-context", len(o.BuildContexts) > 0},
		{"--attest, --provenance or --sbom", len(o.Attestations) > 0},
		{"--annotation", len(o.Annotations) > 0},
		{"--allow", len(o.Allow) > 0},
		{"--no-cache-filter", len(o.NoCacheFilter) > 0},
		{"--platform with more than one platform", len(o.Platforms) > 1},
		{"--cache-to", len(o.CacheTo) > 0},
	} {
		if refused.given {
			return unsupported(refused.option)
		}
	}
	for _, spec := range o.CacheFrom {
		if spec.Type != "registry" || spec.Attributes["ref"] == "" {
			return unsupported("--cache-from type=" + spec.Type)
		}
	}
	for _, output := range o.Outputs {
		if !toEngine(output) {
			return unsupported("--output type=" + output.Type)
		}
	}
	return nil
}

// classicOptions are the options as the Docker Engine's API takes them
// (docs.docker.com/reference/api/engine/version/v1.41, ImageBuild). Labels are
// left out: they belong to the target alone.
func classicOptions(o Options) (build.ImageBuildOptions, error) {
	opt := build.ImageBuildOptions{
		Version:      build.BuilderV1,
		BuildArgs:    map[string]*string{},
		CgroupParent: o.CgroupParent,
		NetworkMode:  o.Network,
		NoCache:      o.NoCache,
		ShmSize:      o.ShmSize,
		Platform:     strings.Join(o.Platforms, ","),

		CPUPeriod:   o.Classic.CPUPeriod,
		CPUQuota:    o.Classic.CPUQuota,
		CPUSetCPUs:  o.Classic.CPUSetCPUs,
		CPUSetMems:  o.Classic.CPUSetMems,
		CPUShares:   o.Classic.CPUShares,
		Isolation:   container.Isolation(o.Classic.Isolation),
		Memory:      o.Classic.Memory,
		MemorySwap:  o.Classic.MemorySwap,
		SecurityOpt: o.Classic.SecurityOpts,
		Squash:      o.Classic.Squash,
		// A failed step's container serves nobody here: what was complete
		// before it is an image already.
		Remove:      !o.Classic.KeepContainers,
		ForceRemove: o.Classic.ForceRemove || !o.Classic.KeepContainers,
	}
	for _, arg := range o.BuildArgs {
		opt.BuildArgs[arg.Name] = &arg.Value
	}
	for _, host := range o.AddHosts {
		opt.ExtraHosts = append(opt.ExtraHosts, host.Name+":"+host.Address)
	}
	for _, text := range o.Ulimits {
		limit, err := units.ParseUlimit(text)
		if err != nil {
			return opt, fmt.Errorf("read --ulimit: %w", err)
		}
		opt.Ulimits = append(opt.Ulimits, limit)
	}
	return opt, nil
}
