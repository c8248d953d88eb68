package cache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/mounts"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MountSelection says which cache mounts are kept: all (the zero value), none,
// or those with certain ids.
type MountSelection struct {
	None bool
	IDs  []string
}

func (s MountSelection) has(m stages.CacheMount) bool {
	return !s.None && (len(s.IDs) == 0 || slices.Contains(s.IDs, m.ID))
}

// MountSlot is the identity of one place where what a cache mount holds is
// kept. Steps of all stages share a mount, so that it belongs to none.
type MountSlot struct {
	Level  Level
	Branch string // as in Slot
	Mount  string // its stages.CacheMount.Key
	Scope  string
	id     string
}

// Tag is where s is kept: one tag, since its hash keeps it apart from all
// other slots.
func (s MountSlot) Tag() string {
	id := s.identity()
	var name tagName
	if id.Level != registry.LevelUnprefixed {
		name.join("", id.Branch)
	}
	name.join("-", "mount")
	if base := strings.Trim(path.Base(s.id), "."); base != "" && base != "/" {
		name.join("-", base)
	}
	hash := identityHash("mount", id.Level, id.Branch, id.Mount, id.Scope)
	return name.withSuffix("-" + hash[:hashedHashDigits])
}

// identity is what distinguishes s from other slots.
func (s MountSlot) identity() registry.Annotations {
	a := registry.Annotations{Level: registry.LevelBranch, Branch: utf8Text(s.Branch), Mount: utf8Text(s.Mount), Scope: utf8Text(s.Scope)}
	if s.Level == LevelUnprefixed {
		a.Level, a.Branch = registry.LevelUnprefixed, ""
	}
	return a
}

// keptBy tells whether annotations found at a tag are those of s.
func (s MountSlot) keptBy(found registry.Annotations) bool {
	other := registry.Annotations{Level: found.Level, Branch: found.Branch, Mount: found.Mount, Scope: found.Scope}
	if other.Level == registry.LevelUnprefixed {
		other.Branch = ""
	}
	return s.identity() == other
}

// holds tells whether a manifest was written for s: by its annotations alone,
// since what is damaged is to be replaced.
func (s MountSlot) holds(raw []byte) bool {
	var manifest ocispec.Manifest
	if json.Unmarshal(raw, &manifest) != nil || manifest.ArtifactType != mounts.ArtifactType {
		return false
	}
	annotations, err := registry.ParseAnnotations(manifest.Annotations)
	return err == nil && s.keptBy(annotations)
}

// MountPlan is the plan for one cache mount.
type MountPlan struct {
	Mount  stages.CacheMount
	Stages []string    // that use it, as --target takes them
	Reads  []MountSlot // the most specific first
	Writes []MountSlot
}

// planMounts plans the cache mounts of the stages that are built.
func (p *Plan) planMounts(r Request, levels []level, write map[Level]bool) {
	found := r.File.CacheMounts(r.Stages)
	if r.Mounts.None && len(found) > 0 {
		p.skip("cache mounts", "--cache-mounts=none")
	}
	for _, id := range r.Mounts.IDs {
		if !slices.ContainsFunc(found, func(m stages.CacheMount) bool { return m.ID == id }) {
			p.skip("cache mount "+id, "no step that is built has it")
		}
	}
	for _, mount := range found {
		if !r.Mounts.has(mount) {
			continue
		}
		plan := MountPlan{Mount: mount}
		for _, index := range r.Stages {
			stage := r.File.Stages[index]
			uses := func(in stages.Instruction) bool {
				return slices.ContainsFunc(in.CacheMounts, func(m stages.CacheMount) bool { return m.Key() == mount.Key() })
			}
			if slices.ContainsFunc(stage.Instructions, uses) {
				plan.Stages = append(plan.Stages, stage.Target())
			}
		}
		for _, level := range levels {
			slot := MountSlot{Level: level.name, Branch: level.branch, Mount: mount.Key(), Scope: r.Scope, id: mount.ID}
			plan.Reads = append(plan.Reads, slot)
			if write[level.name] && !mount.ReadOnly {
				plan.Writes = append(plan.Writes, slot)
			}
		}
		p.Mounts = append(p.Mounts, plan)
	}
}

// printMounts prints the plans of the cache mounts.
func (p Plan) printMounts(w io.Writer) {
	for _, mount := range p.Mounts {
		fmt.Fprintf(w, "\ncache mount %s (used by %s)\n", mount.Mount.Key(), strings.Join(mount.Stages, ", "))
		for _, list := range []struct {
			verb  string
			slots []MountSlot
		}{{"read ", mount.Reads}, {"write", mount.Writes}} {
			var tags []string
			for _, slot := range list.slots {
				tags = append(tags, fmt.Sprintf("%s (%s)", slot.Tag(), slot.Level))
			}
			if len(tags) > 0 {
				fmt.Fprintf(w, "  %s  %s\n", list.verb, strings.Join(tags, ", "))
			}
		}
	}
}

// Mount is the plan of the mount with a key.
func (p Plan) Mount(key string) (MountPlan, bool) {
	for _, mount := range p.Mounts {
		if mount.Mount.Key() == key {
			return mount, true
		}
	}
	return MountPlan{}, false
}

// FoundMount is what the nearest slot of a mount holds.
type FoundMount struct {
	Slot  MountSlot
	Ref   registry.Image
	State mounts.State
}

// collectMounts takes for each mount the nearest slot that holds something
// which may be used.
func (l *lookup) collectMounts() {
	l.found.Mounts = map[string]FoundMount{}
	for _, mount := range l.plan.Mounts {
		for _, slot := range mount.Reads {
			ref := l.plan.Repository.Tagged(slot.Tag())
			held, ok := l.held[ref]
			if !ok {
				continue
			}
			state, annotations, err := parseMount(held.raw)
			if err == nil && !slot.keptBy(annotations) {
				err = errNotTheMounts
			}
			if err == nil && !l.plan.Origin.Trust.reads(Trust(annotations.Trust)) {
				err = fmt.Errorf("it was written by a build of trust %s, this one trusts %s only", annotations.Trust, TrustOwn)
			}
			if err != nil {
				l.found.Warnings = append(l.found.Warnings, fmt.Sprintf("the cache mount at %s is not used: %v", ref, err))
				continue
			}
			l.found.Mounts[mount.Mount.Key()] = FoundMount{slot, ref, state}
			break
		}
	}
}

var errNotTheMounts = errors.New("something else stands there")

func parseMount(raw []byte) (mounts.State, registry.Annotations, error) {
	state, encoded, err := mounts.ParseState(raw)
	if err != nil {
		return state, registry.Annotations{}, err
	}
	annotations, err := registry.ParseAnnotations(encoded)
	return state, annotations, err
}

// SaveMount writes the state of a mount to its slots, the branch's first. One
// that did not change goes only to those that keep nothing yet, as a new
// branch's do.
func SaveMount(ctx context.Context, w Writer, p Plan, f Found, mount MountPlan, state mounts.State, changed bool, version string) []Saved {
	var saved []Saved
	for _, slot := range mount.Writes {
		tag := slot.Tag()
		if _, kept := f.Tags[tag]; kept && !changed {
			continue
		}
		one := Saved{Ref: p.Repository.Tagged(tag)}
		one.Err = writeMount(ctx, w, p, slot, state, version)
		saved = append(saved, one)
	}
	return saved
}

func writeMount(ctx context.Context, w Writer, p Plan, slot MountSlot, state mounts.State, version string) error {
	tag := slot.Tag()
	held, _, err := w.Manifest(ctx, p.Repository, tag)
	switch {
	case errors.Is(err, registry.ErrNotFound):
	case err != nil:
		return err
	default:
		if !slot.holds(held) {
			return fmt.Errorf("not moved: %w", errNotTheMounts)
		}
	}
	annotations := slot.identity()
	annotations.Branch = utf8Text(cmp.Or(slot.Branch, p.Branch.Name))
	annotations.Trust = string(cmp.Or(p.Origin.Trust, TrustOwn))
	annotations.ToolVersion = version
	annotations.Created = time.Now()
	if err := annotations.Validate(); err != nil {
		return err
	}
	raw, err := state.Manifest(annotations.Map())
	if err == nil {
		_, err = w.PutManifest(ctx, p.Repository, tag, raw, ocispec.MediaTypeImageManifest)
	}
	return err
}
