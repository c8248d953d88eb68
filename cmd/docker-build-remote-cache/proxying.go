package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/proxies"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// probeLimit bounds how long a proxy may take to answer. Steps that want it
// wait for that long.
const probeLimit = 5 * time.Second

// proxying leads steps through the proxies that answer. A proxy that does not
// is left out: losing it never loses the build.
type proxying struct {
	engine   *engine.Engine
	options  engine.Options
	settings proxies.Settings
	warn     func(format string, args ...any)

	steps  []proxies.Step // that ask for proxies
	mirror *mirror        // nil for none

	mu       sync.Mutex
	probes   map[proxies.Tool]*probe
	warnings []string
}

// probe is the question whether a proxy answers.
type probe struct {
	done    chan struct{} // closed once address and err are set
	address proxies.Address
	err     error
	asked   bool // a step has begun that wants it; guarded by mu
	told    bool // its loss was warned of; guarded by mu
}

// leadThroughProxies has steps ask for proxies, and finds out which are there.
func (s surroundings) leadThroughProxies(ctx context.Context, o *options, p *prepared, e *engine.Engine) *proxying {
	l := &proxying{engine: e, options: o.build, settings: o.proxies, warn: s.talk, probes: map[proxies.Tool]*probe{}}
	all := proxies.Steps(p.file)
	var reason string
	l.steps, reason = askForProxies(o, p, e)
	for _, tool := range used(p, all) {
		if _, ok := l.settings.Of(tool); ok && reason != "" {
			l.say("the proxy for %s is not used: %s", tool, reason)
		}
	}
	l.start(ctx, used(p, l.steps))
	l.useMirror(ctx, p)
	return l
}

// askForProxies edits the Dockerfile so that steps ask for proxies, whether
// there are any or not, or they would not be the steps of the same build
// without: it depends on the Dockerfile, --proxy none and the frontend alone.
// Where steps cannot ask, that is why.
func askForProxies(o *options, p *prepared, e *engine.Engine) (steps []proxies.Step, reason string) {
	directive := syntaxOf(o, p.file)
	switch {
	case o.proxies.AsWritten:
		return nil, ""
	case !e.BuildKit:
		return nil, "the classic builder knows no secrets: use BuildKit"
	case !proxies.FrontendKnown(directive):
		return nil, "the frontend " + directive + " is not known to take secrets: use docker/dockerfile:1"
	}
	p.file, steps = edited(p.file, proxies.Steps(p.file))
	return steps, ""
}

// syntaxOf is the frontend image that reads the Dockerfile, "" for the one
// that is built in: BUILDKIT_SYNTAX comes before the file's own directive
// (moby/buildkit frontend/dockerui/config.go).
func syntaxOf(o *options, file *stages.File) string {
	for _, arg := range o.build.BuildArgs {
		if arg.Name == "BUILDKIT_SYNTAX" && arg.Value != "" {
			return arg.Value
		}
	}
	return file.Syntax
}

// edited makes the edits, but for steps that are written in a way that cannot
// be edited.
func edited(file *stages.File, steps []proxies.Step) (*stages.File, []proxies.Step) {
	for {
		led, err := file.Edited(proxies.Edits(steps))
		var refused *stages.EditError
		switch {
		case err == nil:
			return led, steps
		case !errors.As(err, &refused):
			return file, nil
		}
		rest := slices.DeleteFunc(slices.Clone(steps), func(step proxies.Step) bool { return step.Line == refused.Line })
		if len(rest) == len(steps) {
			return file, nil
		}
		steps = rest
	}
}

// used are the tools of the steps that are built.
func used(p *prepared, steps []proxies.Step) []proxies.Tool {
	var tools []proxies.Tool
	for _, tool := range proxies.Tools() {
		if slices.ContainsFunc(steps, func(step proxies.Step) bool {
			return slices.Contains(p.stages, step.Stage) && slices.Contains(step.Tools, tool)
		}) {
			tools = append(tools, tool)
		}
	}
	return tools
}

// start asks all proxies at once whether they answer, while the build begins:
// one whose steps are all cached waits for none of them.
func (l *proxying) start(ctx context.Context, tools []proxies.Tool) {
	for _, tool := range tools {
		if a, ok := l.settings.Of(tool); ok && l.options.Network != "none" {
			asked := &probe{done: make(chan struct{})}
			l.probes[tool] = asked
			go func() {
				defer close(asked.done)
				asked.address, asked.err = l.find(ctx, a)
			}()
		}
	}
}

// find is a proxy's address as steps reach it.
func (l *proxying) find(ctx context.Context, a proxies.Address) (proxies.Address, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeLimit, fmt.Errorf("no answer within %v", probeLimit))
	defer cancel()
	candidates := []proxies.Address{a}
	if a.OnHost() {
		candidates = nil
		for _, host := range l.engine.HostFromSteps(ctx, l.options) {
			candidates = append(candidates, a.At(host))
		}
		if len(candidates) == 0 {
			return a, errors.New("steps have a network of their own on this engine, and their host's address there is not known: give the address that they reach the proxy by")
		}
	}
	var errs []error
	for _, candidate := range candidates {
		err := l.engine.Reach(ctx, candidate.Root())
		if err == nil {
			return candidate, nil
		}
		errs = append(errs, err)
	}
	return a, errors.Join(errs...)
}

// ask answers a step that mounts a secret of a proxy.
func (l *proxying) ask(ctx context.Context, id string) ([]byte, bool) {
	tool, ok := proxies.ToolOf(id)
	asked := l.probes[tool]
	if !ok || asked == nil {
		return nil, false
	}
	l.mu.Lock()
	asked.asked = true
	l.mu.Unlock()
	select {
	case <-asked.done:
	case <-ctx.Done():
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if asked.err != nil {
		return nil, false
	}
	return proxies.Contents(tool, asked.address)
}

// tell warns of the proxies that steps went without.
func (l *proxying) tell() {
	for _, tool := range proxies.Tools() {
		l.mu.Lock()
		lost := l.probes[tool]
		tell := lost != nil && lost.asked && !lost.told && lost.ended() && lost.err != nil
		if tell {
			lost.told = true
		}
		l.mu.Unlock()
		if tell {
			l.say("the proxy for %s, %s, does not answer, and was left out: %v", tool, lost.address, lost.err)
		}
	}
}

func (p *probe) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// diedMeanwhile tells whether a proxy that steps were led through has gone away
// since, or whether the mirror failed the build: then the same build may
// succeed without.
func (l *proxying) diedMeanwhile(ctx context.Context, r engine.Request, outcome engine.Outcome) bool {
	died := false
	for _, tool := range proxies.Tools() {
		l.mu.Lock()
		asked := l.probes[tool]
		given := asked != nil && asked.asked && asked.ended() && asked.err == nil
		l.mu.Unlock()
		if !given {
			continue
		}
		if _, err := l.find(ctx, asked.address); err != nil {
			l.mu.Lock()
			asked.err = err
			l.mu.Unlock()
			died = true
		}
	}
	if l.mirror != nil && l.mirror.blamed(outcome) {
		l.say("the mirror %s failed the build, and is left out: %s", l.mirror.address, outcome.Message(r))
		l.mirror, died = nil, true
	}
	return died
}

func (l *proxying) say(format string, args ...any) {
	warning := fmt.Sprintf(format, args...)
	l.warnings = append(l.warnings, warning)
	l.warn("warning: %s", warning)
}

// into adds to a build's options what leads it.
func (l *proxying) into(o engine.Options) engine.Options {
	o.Ask = l.ask
	o.BuildContexts = slices.Clone(l.options.BuildContexts)
	if l.mirror != nil {
		o.BuildContexts = append(o.BuildContexts, l.mirror.contexts...)
	}
	return o
}

// mirror is a registry that has the images of Docker Hub too.
type mirror struct {
	address  proxies.Address
	contexts []engine.KeyValue // each base image as one of the mirror's
}

// useMirror makes named contexts of the base images, each of which is then
// pulled from the mirror. A step's key holds an image's digest and not where it
// came from (source/containerimage/pull.go, mainManifestKey), so that the steps
// are the same with and without.
func (l *proxying) useMirror(ctx context.Context, p *prepared) {
	a, ok := l.settings.Of(proxies.Docker)
	if !ok {
		return
	}
	m := &mirror{address: a}
	for _, stage := range p.stages {
		for _, image := range p.file.Stages[stage].Images {
			m.add(image)
		}
	}
	if len(m.contexts) == 0 {
		return
	}
	known, err := l.engine.NamedContexts(ctx)
	if err == nil && !known {
		err = errors.New("the engine's Dockerfile frontend is too old for it: set registry-mirrors in the engine's own configuration")
	}
	if err == nil {
		err = l.answers(ctx, a)
	}
	if err != nil {
		l.say("the mirror %s is left out: %v", a, err)
		return
	}
	l.mirror = m
}

func (l *proxying) answers(ctx context.Context, a proxies.Address) error {
	ctx, cancel := context.WithTimeoutCause(ctx, probeLimit, fmt.Errorf("no answer within %v", probeLimit))
	defer cancel()
	return l.engine.Reach(ctx, a.Root()+"v2/")
}

// add has an image of Docker Hub come from the mirror.
func (m *mirror) add(image string) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil || reference.Domain(named) != "docker.io" {
		return
	}
	named = reference.TagNameOnly(named)
	rest := strings.TrimPrefix(named.String(), "docker.io/")
	context := engine.KeyValue{Key: image, Value: "docker-image://" + m.address.Host() + "/" + rest}
	if !slices.Contains(m.contexts, context) {
		m.contexts = append(m.contexts, context)
	}
}

// blamed tells whether it was an image of the mirror that failed the build.
func (m *mirror) blamed(outcome engine.Outcome) bool {
	return outcome.Result == engine.BuildFailed && outcome.Err != nil && strings.Contains(outcome.Err.Error(), m.address.Host()+"/")
}
