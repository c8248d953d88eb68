package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker/go-units"
)

// when is a condition under which something of the cache is written.
type when string

// The conditions of --cache-save and --cache-unprefixed.
const (
	always          when = "always"
	onSuccess       when = "success"
	onDefaultBranch when = "default-branch"
	never           when = "never"
)

// stageSelection says which stages are cached: every one (the zero value),
// only those that the target needs, or the named ones.
type stageSelection struct {
	needed bool
	names  []string // lower case, as BuildKit keeps stage names, or indexes
}

// ownOptions are the options of this tool, in the order of the help text. To
// add one, add a line here and a field to options: flag, variable and help
// follow.
func (p *parser) ownOptions() []option {
	o := p.options
	return []option{
		own(option{name: "branch", value: "NAME", set: text(&o.branch),
			help: "Branch whose cache is read first and written (default: from the CI's variables, else git)"}),
		own(option{name: "default-branch", value: "NAME", set: text(&o.defaultBranch),
			help: "Branch whose cache is read next (default: from the CI, else the remote's HEAD, else master or main)"}),
		own(option{name: "base-branch", value: "NAME", set: text(&o.baseBranch),
			help: "Branch that a pull request goes to, read before the default branch (default: from the CI)"}),
		own(option{name: "cache-repo", value: "REPO", set: text(&o.cacheRepo),
			help: "Repository that holds the cache (default: the image's own)"}),
		own(option{name: "cache-stages", value: "LIST", form: "all, target or NAME[,NAME...]",
			set:  parsed(parseStageSelection, func(s stageSelection) { o.cacheStages = s }),
			help: "Stages to cache: all (default), target for only those the target needs, or stage names"}),
		own(option{name: "cache-save", value: "WHEN", form: "always, success or never",
			set:  choice(&o.cacheSave, always, onSuccess, never),
			help: "When to save the stages that completed: always (default; also of a failed build), success, never"}),
		own(option{name: "cache-unprefixed", value: "WHEN", form: "always, default-branch or never",
			set:  choice(&o.cacheUnprefixed, always, onDefaultBranch, never),
			help: "When to save under the tags without a branch too: always (default), default-branch, never"}),
		own(option{name: "cache-scope", value: "NAME", set: text(&o.cacheScope),
			help: "Name of this job among those that build the image at once, as in a matrix; each writes a cache of its own, all are read"}),
		own(option{name: "cache-mounts", value: "LIST", form: "all, none or ID[,ID...]",
			set:  parsed(parseMountSelection, func(m cache.MountSelection) { o.cacheMounts = m }),
			help: "Cache mounts (RUN --mount=type=cache) to keep too: all (default), none, or their ids"}),
		own(option{name: "cache-mounts-max", value: "SIZE", form: "a size such as 500m or 2g", set: parsed(parseMountSize, func(n int64) { o.cacheMountsMax = n }),
			help: "Size above which a cache mount is not kept (default 2g)"}),
		own(option{name: "keep-going", set: toggle(&o.keepGoing),
			help: "When a step fails, let stages that do not need it finish"}),
		own(option{name: "checkpoint", value: "DURATION", form: "a duration such as 2m, or 0 for none", set: duration(&o.checkpoint),
			help: "Save what is complete while the build runs: when a stage is done, and this often (default 2m)"}),
		own(option{name: "grace", value: "DURATION", form: "a duration such as 8s", set: duration(&o.grace),
			help: "Time to save after SIGINT or SIGTERM (default: what the CI gives, else 4m)"}),
		own(option{name: "state", value: "FILE", set: text(&o.state),
			help: "Keep in FILE what \"save --state FILE\" needs to save what this run could not; readable by this user only, as it holds build arguments"}),
		own(option{name: "cache-trust", value: "WHOSE", form: "own or fork", set: choice(&o.cacheTrust, cache.TrustOwn, cache.TrustFork),
			help: "Whose code is built: own, or fork, of which nothing is saved (default: from the CI)"}),
		own(option{name: "proxy", value: "TOOL=URL", form: "TOOL=URL, TOOL=none or none; the tools are apt, pip, npm, gem, go, maven, cargo and docker",
			set:  perWord(o.proxies.Set),
			help: "Lead RUN steps that call a package manager (apt, pip, npm, gem, go, maven, cargo), or pulls of base images (docker), through a caching proxy; can be repeated; none builds all steps word for word"}),
		own(option{name: "config", value: "FILE", set: text(&o.config),
			help: "Configuration file (default: ~/.config/docker-build-remote-cache/config.toml, then the same below /etc)"}),
		own(option{name: "volatile-arg", value: "NAME[=VALUE]", form: "NAME=VALUE, or NAME for the value of --build-arg or of that variable",
			set: skipEmpty(p.setVolatile), setList: p.setVolatileList,
			help: "Give an ARG a value that busts no cache and is kept nowhere, such as a token; without =VALUE it is that of the build argument or variable of this name"}),
		own(option{name: "auto-cache-mounts", set: toggle(&o.autoCacheMounts),
			help: "Add the cache mounts of the advice to the RUN steps, without an edit of the Dockerfile"}),
		own(option{name: "advice", set: toggle(&o.advice),
			help: "Say which RUN steps lack a cache mount for their package manager (default true)"}),
		own(option{name: "dry-run", set: toggle(&o.dryRun),
			help: "Print what would be read, built and saved, and stop; needs no engine"}),
		own(option{name: "report", value: "FILE", set: text(&o.report),
			help: "Write what happened to FILE as JSON"}),
		{name: "version", set: toggle(&o.version), help: "Print the version and stop"},
		{name: "help", short: "h", set: toggle(&o.help), help: "Print this text and stop"},
	}
}

// stageName is a name as BuildKit's parser accepts it after FROM ... AS
// (frontend/dockerfile/instructions/parse.go), or the index of a stage.
var stageName = regexp.MustCompile(`^([a-z][a-z0-9-_.]*|[0-9]+)$`)

// entries splits a list at commas and, as pipelines write lists, at the ends of
// lines. Entries are without white space around them; an empty line is none.
func entries(s string) (list []string) {
	for line := range strings.Lines(s) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		for _, entry := range strings.Split(line, ",") {
			list = append(list, strings.TrimSpace(entry))
		}
	}
	return list
}

func parseStageSelection(s string) (stageSelection, error) {
	s = strings.ToLower(s)
	switch s {
	case "", "all":
		return stageSelection{}, nil
	case "target":
		return stageSelection{needed: true}, nil
	}
	var names []string
	for _, name := range entries(s) {
		if !stageName.MatchString(name) {
			return stageSelection{}, fmt.Errorf("%q is not the name of a stage", name)
		}
		if name == "all" || name == "target" {
			return stageSelection{}, fmt.Errorf("%q cannot stand among names", name)
		}
		names = append(names, name)
	}
	return stageSelection{names: names}, nil
}

func parseMountSelection(s string) (cache.MountSelection, error) {
	switch s {
	case "", "all":
		return cache.MountSelection{}, nil
	case "none":
		return cache.MountSelection{None: true}, nil
	}
	var ids []string
	for _, id := range entries(s) {
		switch id {
		case "":
			return cache.MountSelection{}, fmt.Errorf("%q has an empty id", s)
		case "all", "none":
			return cache.MountSelection{}, fmt.Errorf("%q cannot stand among ids", id)
		}
		ids = append(ids, id)
	}
	return cache.MountSelection{IDs: ids}, nil
}

func parseMountSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err == nil && n <= 0 {
		err = fmt.Errorf("%q is no size", s)
	}
	return n, err
}
