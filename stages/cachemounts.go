package stages

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// CacheMount is one RUN --mount=type=cache, its options as BuildKit expands
// them (convert_runmount.go). What the ENV of a base image contributes to that
// is not known here, nor are the mounts of its ONBUILD triggers.
type CacheMount struct {
	// ID is that of id=, else the cleaned target, which is not joined with
	// WORKDIR.
	ID string
	// Target is where the step finds it, as written.
	Target string
	// Sharing is shared, private or locked.
	Sharing  string
	ReadOnly bool
	// From is the stage or image that it begins with, "" for an empty one;
	// Source is the directory of it that is mounted, "/" for all.
	From, Source string
	// Owner and mode of a new mount, nil where not given.
	UID, GID, Mode *uint64
}

// Key is the identity of the mount: steps whose mounts have one key share one
// directory. BuildKit tells mounts apart by id and by what they begin with:
// another stage or image, or an empty directory with an owner and a mode
// (solver/llbsolver/mounts/mount.go); sharing is no part of it. Those that
// mount different directories of one are kept apart here too.
func (m CacheMount) Key() string {
	key := []string{strconv.Quote(m.ID)}
	if m.From != "" {
		key = append(key, "from="+strconv.Quote(strings.ToLower(m.From)))
	}
	switch {
	case m.Source != "/":
		key = append(key, "source="+strconv.Quote(m.Source))
	case m.UID != nil || m.GID != nil || m.Mode != nil:
		key = append(key, fmt.Sprintf("owner=%d:%d mode=%#o", orElse(m.UID, 0), orElse(m.GID, 0), orElse(m.Mode, 0o755)))
	}
	return strings.Join(key, " ")
}

func orElse(value *uint64, otherwise uint64) uint64 {
	if value == nil {
		return otherwise
	}
	return *value
}

// CacheMounts are the mounts that the steps of some stages use, in the order
// of the file, each key once: the first that may be written, as those who
// restore and save one need.
func (f *File) CacheMounts(stages []int) []CacheMount {
	var found []CacheMount
	at := map[string]int{}
	for _, stage := range slices.Sorted(slices.Values(stages)) {
		for _, in := range f.Stages[stage].Instructions {
			for _, m := range in.CacheMounts {
				i, known := at[m.Key()]
				switch {
				case !known:
					at[m.Key()] = len(found)
					found = append(found, m)
				case found[i].ReadOnly && !m.ReadOnly:
					found[i] = m
				}
			}
		}
	}
	return found
}

// maxEnvironment bounds, in bytes, what the ARGs and ENVs of one stage may
// hold for its cache mounts to be known.
const maxEnvironment = 1 << 20

// environment is what the options of a stage's mounts are expanded with
// (convert.go, dispatchArg and dispatchEnv).
type environment struct {
	vars  *variables
	size  int
	known bool // not so once there is too much of it, or BuildKit refuses some
}

// addCacheMounts expands the cache mounts of all stages. One that BuildKit
// will refuse is left out: it says so itself, of the stages that are built.
func (r *resolver) addCacheMounts(given map[string]string) {
	any, variable := false, false
	for _, d := range r.drafts {
		for _, run := range d.runs() {
			any = any || slices.Contains(run.FlagsUsed, "mount")
			variable = variable || strings.ContainsRune(run.String(), '$')
		}
	}
	if !any {
		return
	}
	environments := make([]environment, len(r.drafts))
	for i, d := range r.drafts {
		env := environment{vars: &variables{values: map[string]string{}, lex: r.vars.lex}, known: true}
		if d.From >= 0 {
			base := environments[d.From]
			env.size, env.known = base.size, base.known
			if variable {
				env.vars.values = maps.Clone(base.vars.values)
			}
		}
		for j, command := range d.commands {
			switch c := command.(type) {
			case *instructions.ArgCommand:
				if variable && env.known {
					env.arg(c, r.vars.values, given)
				}
			case *instructions.EnvCommand:
				if variable && env.known {
					env.env(c)
				}
			case *instructions.RunCommand:
				if env.known {
					d.Instructions[j].CacheMounts = env.mounts(c)
				}
			}
		}
		environments[i] = env
	}
}

func (d *draft) runs() []*instructions.RunCommand {
	var runs []*instructions.RunCommand
	for _, command := range d.commands {
		if run, ok := command.(*instructions.RunCommand); ok {
			runs = append(runs, run)
		}
	}
	return runs
}

func (e *environment) set(name, value string) {
	e.size += len(name) + len(value)
	e.vars.values[name] = value
	e.known = e.known && e.size <= maxEnvironment
}

func (e *environment) arg(c *instructions.ArgCommand, global, given map[string]string) {
	for _, arg := range c.Args {
		name, err := e.vars.expand(arg.Key)
		if err != nil {
			e.known = false
			return
		}
		value, isGiven := given[name]
		inherited, isGlobal := global[name]
		switch {
		case isGiven:
		case arg.Value != nil:
			if value, err = e.vars.expand(*arg.Value); err != nil {
				e.known = false
				return
			}
		case isGlobal:
			value = inherited
		default:
			continue
		}
		e.set(name, value)
	}
}

func (e *environment) env(c *instructions.EnvCommand) {
	if err := c.Expand(e.vars.expand); err != nil {
		e.known = false
		return
	}
	for _, pair := range c.Env {
		e.set(pair.Key, pair.Value)
	}
}

func (e *environment) mounts(c *instructions.RunCommand) []CacheMount {
	if err := c.Expand(e.vars.expand); err != nil {
		return nil
	}
	var found []CacheMount
	for _, m := range instructions.GetMounts(c) {
		if m.Type != instructions.MountTypeCache || m.Target == "" {
			continue
		}
		mount := CacheMount{
			ID: m.CacheID, Target: m.Target, Sharing: string(m.CacheSharing), ReadOnly: m.ReadOnly,
			From: m.From, Source: path.Join("/", m.Source), UID: m.UID, GID: m.GID, Mode: m.Mode,
		}
		if mount.ID == "" {
			mount.ID = path.Clean(m.Target)
		}
		if mount.Sharing == "" {
			mount.Sharing = string(instructions.MountSharingShared)
		}
		if mount.From == scratch {
			mount.From = ""
		}
		found = append(found, mount)
	}
	return found
}
