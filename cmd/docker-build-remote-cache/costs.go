package main

import (
	"fmt"
	"slices"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/credential"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// conditions are what of the options is a part of cache keys.
func conditions(o *options) cache.Conditions {
	c := cache.Conditions{Network: o.build.Network, Args: map[string]cache.Hidden{}}
	for _, host := range o.build.AddHosts {
		c.Hosts = append(c.Hosts, host.Name)
	}
	for _, arg := range o.build.BuildArgs {
		c.Args[arg.Name] = cache.Hidden(arg.Value)
	}
	return c
}

// warnOfCredentials names the build arguments that the Dockerfile declares and
// whose values should be in no image, and what to write instead.
func (p *prepared) warnOfCredentials(s surroundings, o *options) {
	for _, arg := range o.build.BuildArgs {
		lines, declared := p.seenBy(arg.Name)
		if !declared {
			continue // not in the image, nor in a cache key
		}
		kind := credential.Kind(arg.Name, arg.Value)
		if kind == "" {
			continue
		}
		remedy := "give it with --volatile-arg " + arg.Name
		if lines == nil {
			remedy = "give what RUN steps need of it with --secret"
		}
		p.warn(s, "--build-arg %s looks like a credential (%s): the image and its cache keep it, and another value makes the steps below its ARG run again; %s", arg.Name, kind, remedy)
	}
}

// seenBy are, by stage, the lines of the RUN steps that see an ARG, nil if its
// value is needed elsewhere too; declared says that there is such an ARG.
func (p *prepared) seenBy(name string) (lines map[int][]int, declared bool) {
	v, err := p.file.Volatile([]stages.VolatileArg{{Name: name}}, p.stages, true)
	if err != nil {
		return nil, true
	}
	if len(v.Undeclared) > 0 {
		return nil, false
	}
	lines = map[int][]int{}
	for _, e := range v.Edits {
		if stage, _, ok := p.file.Find(e.Line); ok && len(e.Mounts) > 0 {
			lines[stage] = append(lines[stage], e.Line)
		}
	}
	return lines, true
}

// bustedBy says which build arguments have other values than when the cache
// was made, and what that has cost: steps that ran again, though they have run
// before as they are, and though nothing below them had changed.
func (p *prepared) bustedBy(f cache.Found, steps []engine.Step) (warnings []string) {
	var names []string
	for _, plan := range p.plan.Stages {
		for _, name := range f.ChangedArgs(p.plan, plan.Name) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		cost := p.cost(name, f, steps)
		if cost == 0 {
			continue
		}
		text := "1 step ran again"
		if cost > 1 {
			text = fmt.Sprintf("%d steps ran again", cost)
		}
		warnings = append(warnings, fmt.Sprintf("the build argument %s has changed since the last build: %s; if the result does not depend on it, give it with --volatile-arg %[1]s", name, text))
	}
	return warnings
}

// cost is how many steps ran for a changed argument alone.
func (p *prepared) cost(name string, f cache.Found, steps []engine.Step) (cost int) {
	seen, _ := p.seenBy(name)
	other := map[int]bool{} // stages that something else has changed too
	for _, plan := range p.plan.Stages {
		lines := seen[plan.Index]
		for _, need := range p.file.Stages[plan.Index].Needs {
			other[plan.Index] = other[plan.Index] || other[need]
		}
		again := 0
		for _, step := range steps {
			switch {
			case step.Stage != plan.Index || step.Status != engine.Ran:
			case len(lines) == 0 || step.Line < slices.Min(lines):
				other[plan.Index] = true
			case f.Took(plan.Name, step.Instruction) > 0:
				again++
			}
		}
		if !other[plan.Index] {
			cost += again
		}
	}
	return cost
}
