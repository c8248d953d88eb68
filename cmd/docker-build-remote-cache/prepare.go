package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/advice"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/ci"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/docker/cli/cli/config"
)

// prepared is all that is known before an engine or a registry is asked.
type prepared struct {
	file   *stages.File
	stages []int // to build, ascending
	target int
	facts  ci.Facts
	plan   cache.Plan
	hidden []string // values that nothing may show
	advice []advice.Finding
	values []engine.SecretValue // for mounts that were put into the file

	warnings []string // that were said before there was a report
}

// warn says something at once, and keeps it for the report: in the log of a CI
// nobody reads what stands before the build.
func (p *prepared) warn(s surroundings, format string, args ...any) {
	warning := fmt.Sprintf(format, args...)
	p.warnings = append(p.warnings, warning)
	s.talk("warning: %s", warning)
}

// prepare reads the Dockerfile and the facts of the CI and makes the plan.
func prepare(ctx context.Context, s surroundings, o *options) (*prepared, error) {
	if _, err := namesOf(o); err != nil {
		return nil, err // a mistyped name is told before anything is looked for
	}
	if err := checkDirectory(o.build.Context); err != nil {
		return nil, err
	}
	p := &prepared{}
	source, err := readDockerfile(s, o)
	if err == nil {
		p.file, err = parseDockerfile(o, source)
	}
	if err == nil {
		p.target, p.stages, err = chooseStages(p.file, o)
	}
	if err != nil {
		return nil, &dockerfileError{o.build.Dockerfile, err}
	}
	if err := p.checkVolatile(s, o); err != nil {
		return nil, err
	}
	p.warnOfCredentials(s, o)
	var warnings []string
	p.facts, warnings = ci.Detect(ctx, ci.Input{
		Getenv: s.getenv,
		Open:   func(name string) (io.ReadCloser, error) { return os.Open(name) },
		Git:    ci.GitCommand{Dir: o.build.Context},
		Branch: o.branch, DefaultBranch: o.defaultBranch,
	})
	for _, warning := range warnings {
		p.warn(s, "%s", warning)
	}
	return p, p.makePlan(o)
}

// makePlan turns what is known into the plan; it asks nobody.
func (p *prepared) makePlan(o *options) error {
	r, err := namesOf(o)
	if err != nil {
		return err
	}
	r.File, r.Target, r.Stages = p.file, p.target, p.stages
	r.Branch = cache.Branch{Name: p.facts.Branch, From: p.facts.BranchSource}
	r.DefaultBranch = cache.Branch{Name: p.facts.DefaultBranch, From: p.facts.DefaultBranchSource}
	r.BaseBranch = cache.Branch{Name: p.facts.BaseBranch, From: "the pull request"}
	if o.baseBranch != "" {
		r.BaseBranch = cache.Branch{Name: o.baseBranch, From: "--base-branch"}
	}
	r.Origin = origin(o, p.facts)
	skips := p.advise(o)
	r.File = p.file
	p.plan = cache.NewPlan(r)
	p.plan.Skips = append(p.plan.Skips, skips...)
	p.distrust(o)
	return nil
}

// namesOf begins a request with what the command line names.
func namesOf(o *options) (cache.Request, error) {
	r := cache.Request{
		Push: o.push, Scope: o.cacheScope,
		Save: cache.SavePolicy(o.cacheSave), Unprefixed: cache.UnprefixedPolicy(o.cacheUnprefixed),
		Mounts: o.cacheMounts,
	}
	r.Given, _ = splitCacheFrom(o.build.CacheFrom)
	r.Conditions = conditions(o)
	for _, arg := range o.volatile {
		r.Volatile = append(r.Volatile, arg.Name)
	}
	var err error
	if r.Image, err = registry.ParseImage(o.image); err != nil {
		return r, err
	}
	for _, tag := range o.tags {
		name, err := registry.ParseImage(tag)
		if err != nil {
			return r, err
		}
		if name != r.Image && !slices.Contains(r.Names, name) {
			r.Names = append(r.Names, name)
		}
	}
	r.Repository = r.Image.Repository
	if o.cacheRepo != "" {
		r.Repository, err = registry.ParseRepository(o.cacheRepo)
	}
	return r, err
}

// checkDirectory finds out before anything else whether there is a context.
func checkDirectory(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return &contextError{path, err}
	}
	return nil
}

// readDockerfile reads the Dockerfile, which is "-" for standard input. Where
// there is none of that name it may be called dockerfile (moby/buildkit
// frontend/dockerui/config.go, ReadEntrypoint).
func readDockerfile(s surroundings, o *options) (source []byte, err error) {
	from := s.stdin
	if o.build.Dockerfile != "-" {
		file, err := os.Open(o.build.Dockerfile)
		if dir, name := filepath.Split(o.build.Dockerfile); errors.Is(err, fs.ErrNotExist) && name == "Dockerfile" {
			if small, openErr := os.Open(dir + "dockerfile"); openErr == nil {
				o.build.Dockerfile, file, err = small.Name(), small, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read Dockerfile: %w", err)
		}
		defer file.Close()
		from = file
	}
	if source, err = io.ReadAll(io.LimitReader(from, stages.MaxSize+1)); err != nil {
		return nil, fmt.Errorf("read Dockerfile: %w", err)
	}
	return source, nil
}

func parseDockerfile(o *options, source []byte) (*stages.File, error) {
	given := map[string]string{}
	for _, arg := range o.build.BuildArgs {
		given[arg.Name] = arg.Value
	}
	for _, arg := range o.volatile {
		if arg.Given {
			given[arg.Name] = arg.Value // FROM may use it, which is told later
		}
	}
	var contexts []string
	for _, named := range o.build.BuildContexts {
		contexts = append(contexts, named.Key)
	}
	// The engine's own platform is not known yet. It only matters to a
	// Dockerfile whose graph of stages depends on it.
	opt := stages.Options{Args: given, Target: o.build.Target, Contexts: contexts, BuildPlatform: "linux/" + runtime.GOARCH}
	if len(o.build.Platforms) > 0 {
		opt.Platform = o.build.Platforms[0]
	}
	return stages.Parse(source, opt)
}

// chooseStages finds the target and which stages are built. Without --target
// that is every stage, those that nothing uses (tests, linters) included:
// their caches are kept too. With --target it is what the target needs, as
// with docker build.
func chooseStages(file *stages.File, o *options) (target int, chosen []int, err error) {
	if target, err = file.Lookup(o.build.Target); err != nil {
		return 0, nil, err
	}
	wanted := []int{target}
	switch {
	case o.build.Target != "" && len(o.cacheStages.names) == 0, o.cacheStages.needed:
	case len(o.cacheStages.names) > 0:
		for _, name := range o.cacheStages.names {
			stage, err := file.Lookup(name)
			if err != nil {
				return 0, nil, err
			}
			wanted = append(wanted, stage)
		}
	default:
		for i := range file.Stages {
			if file.Stages[i].Fault == nil && !file.Stages[i].Replaced {
				wanted = append(wanted, i)
			}
		}
	}
	chosen = file.Reachable(wanted...)
	for _, i := range chosen {
		if fault := file.Stages[i].Fault; fault != nil {
			return 0, nil, fault
		}
	}
	return target, chosen, nil
}

// names are all names of the image, as the engine takes them.
func (p *prepared) names() []string {
	names := []string{p.plan.Image.String()}
	for _, name := range p.plan.Names {
		names = append(names, name.String())
	}
	return names
}

// engineSelection reads which engine to use from where docker and buildx read
// it.
func (s surroundings) engineSelection(o *options) engine.Selection {
	configDir := s.getenv("DOCKER_CONFIG")
	if configDir == "" {
		configDir = config.Dir()
	}
	builder := o.builder
	if builder == "" {
		builder = s.getenv("BUILDX_BUILDER")
	}
	file, err := config.Load(configDir)
	if err != nil {
		s.talk("warning: read the docker configuration: %v", err)
	}
	certPath := s.getenv("DOCKER_CERT_PATH")
	if certPath == "" && s.getenv("DOCKER_TLS_VERIFY") != "" {
		certPath = configDir
	}
	return engine.Selection{
		Builder: builder, Classic: s.getenv("DOCKER_BUILDKIT") == "0", BuildKitHost: s.getenv("BUILDKIT_HOST"),
		DockerHost: s.getenv("DOCKER_HOST"), DockerContext: s.getenv("DOCKER_CONTEXT"), DockerAPIVersion: s.getenv("DOCKER_API_VERSION"),
		DockerTLSVerify: s.getenv("DOCKER_TLS_VERIFY") != "", DockerCertPath: certPath,
		Config: file, ConfigDir: configDir, BuildxConfig: s.getenv("BUILDX_CONFIG"),
	}
}

// addConfiguredProxies gives the steps the proxies that the docker
// configuration has for them, as docker build does
// (docs.docker.com/engine/cli/proxy), but for those that the command line
// gives, in whichever case.
func addConfiguredProxies(o *options, selection engine.Selection) {
	if selection.Config == nil {
		return
	}
	b := &o.build
	given := func(name string) bool {
		return slices.ContainsFunc(b.BuildArgs, func(arg engine.BuildArg) bool { return strings.EqualFold(arg.Name, name) }) ||
			slices.ContainsFunc(o.volatile, func(arg stages.VolatileArg) bool { return strings.EqualFold(arg.Name, name) })
	}
	configured := selection.Config.ParseProxyConfig(selection.DockerHost, nil)
	var added []engine.BuildArg
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		if value := configured[name]; value != nil && *value != "" && !given(name) {
			added = append(added, engine.BuildArg{Name: name, Value: *value})
		}
	}
	b.BuildArgs = append(b.BuildArgs, added...)
}

func (s surroundings) registryOptions() registry.Options {
	return registry.Options{
		Keychain:  authn.DefaultKeychain,
		UserAgent: program + "/" + version(),
		OnWait: func(w registry.Wait) {
			s.talk("%s: %s, trying again in %v", w.Host, w.Reason, w.Delay.Round(time.Millisecond))
		},
	}
}

// servedView names the merged cache among what a session serves.
const servedView = "remote-cache"

// splitCacheFrom tells the caches of --cache-from that can be merged, those
// at the tag of a registry, from the others, which are imported beside.
func splitCacheFrom(specs []engine.CacheSpec) (given []registry.Image, others []engine.CacheSpec) {
	for _, spec := range specs {
		ref, err := registry.ParseImage(spec.Attributes["ref"])
		if spec.Type != "registry" || len(spec.Attributes) != 1 || err != nil {
			others = append(others, spec)
			continue
		}
		given = append(given, ref)
	}
	return given, others
}

// request is what the engine is asked to build.
func request(s surroundings, o *options, p *prepared, view cache.View) engine.Request {
	r := engine.Request{
		Options: o.build, File: p.file, Stages: p.stages, Target: p.target,
		StageImages: view.StageImages, Staging: p.plan.Owner().CacheExportTag(), KeepGoing: o.keepGoing,
		Progress: engine.Progress{Mode: o.progress, Out: s.stderr, Quiet: s.heartbeat(o), Hidden: p.hidden},
	}
	switch {
	case view.Ref != "":
		r.Imports = []engine.CacheSpec{{Type: "registry", Attributes: map[string]string{"ref": view.Ref}}}
	case view.Served != nil:
		r.Imports = []engine.CacheSpec{engine.LocalImport(servedView, view.Digest)}
		r.Stores = map[string]content.Store{servedView: view.Served}
	}
	beside := o.build.CacheFrom
	if !p.plan.CacheInImages {
		_, beside = splitCacheFrom(beside) // the others are part of the view
	}
	for _, spec := range beside {
		if spec.Type == "local" && !p.plan.CacheInImages {
			served, store, err := engine.DirectoryImport(spec)
			if err != nil {
				p.warn(s, "nothing is read from --cache-from type=local: %v", err)
				continue
			}
			if r.Stores == nil {
				r.Stores = map[string]content.Store{}
			}
			spec, r.Stores[served.Attributes["src"]] = served, store
		}
		r.Imports = append(r.Imports, spec)
	}
	r.Options.Values = append(r.Options.Values, p.values...)
	r.Options.Context, _ = filepath.Abs(o.build.Context)
	return r
}
