package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
)

// What is printed where: stdout is for results that scripts read (the image
// ID with --quiet, the plan of --dry-run, an --output of -); all talk goes to
// stderr. The build's own output is BuildKit's; our lines are few and begin
// with "remote-cache: ". Errors are "error: " and "hint: ", in lower case,
// without a full stop.

// tellLookup says which cache each stage starts from, and what went wrong.
func (s surroundings) tellLookup(o *options, p *prepared, f cache.Found, v cache.View) {
	for _, warning := range append(append([]string{}, f.Warnings...), v.Warnings...) {
		s.talk("warning: %s", warning)
	}
	if o.quiet || v.Empty() && len(f.Warnings) > 0 {
		return // or whether there is a cache is not known
	}
	shared := v.Of("")
	for _, stage := range p.plan.Stages {
		of := v.Of(stage.Name)
		switch {
		case len(stage.Reads) == 0:
		case len(of) > 0:
			s.talk("%s: cache from %s", stage.Name, tagsOf(of))
		case len(shared) == 0:
			s.talk("%s: no cache yet", stage.Name)
		}
	}
	if len(shared) > 0 {
		s.talk("all stages: cache from %s", tagsOf(shared))
	}
	for _, mount := range p.plan.Mounts {
		if found, ok := f.Mounts[mount.Mount.Key()]; ok {
			s.talk("cache mount %s: cache from %s (%s)", mount.Mount.Key(), found.Ref.Tag, found.Slot.Level)
		}
	}
	if v.Served != nil {
		s.talk("the merged cache is served by this process, for it cannot be written to %s", p.plan.Repository)
	}
}

func tagsOf(lineages []cache.Lineage) string {
	var tags []string
	for _, l := range lineages {
		tag := l.Ref.Tag
		if l.Level == cache.LevelGiven {
			tag = l.Ref.String() // may be anywhere
		}
		tags = append(tags, fmt.Sprintf("%s (%s)", tag, l.Level))
	}
	return strings.Join(tags, ", ")
}

// tellFailure shows why the build failed, as docker build does.
func (s surroundings) tellFailure(p *prepared, outcome engine.Outcome) {
	outcome.Excerpt(s.stderr, p.file)
	switch {
	case outcome.EngineGone():
		writeError(s.stderr, "build: the engine went away: "+p.message(outcome),
			"look at the engine's log, then run the same command again: it begins where the last checkpoint was saved")
	case outcome.Result == engine.BuildFailed:
		message := p.message(outcome)
		hint := ""
		if strings.Contains(message, "dockerfile parse error") { // of what this program has parsed
			hint = "the engine's Dockerfile frontend is older than what the Dockerfile uses, such as heredocs: " +
				"begin the Dockerfile with # syntax=docker/dockerfile:1 and build with BuildKit, or use a newer engine"
		}
		writeError(s.stderr, "build: "+message, hint)
	}
}

// tellLeft says how what could not be saved is saved later.
func (s surroundings) tellLeft(o *options, k *keeper) {
	if o.state != "" && !k.state.Saved && k.state.Build != nil {
		s.talk("what was not saved is left on the engine; in this job, save it with: %s %s --state %s", program, saveVerb, o.state)
	}
}

// writeIIDFile writes what docker build --iidfile does: the image ID.
func writeIIDFile(o *options, d engine.Delivered) error {
	if o.iidFile == "" || d.ImageID == "" {
		return nil
	}
	if err := os.WriteFile(o.iidFile, []byte(d.ImageID), 0o644); err != nil {
		return fmt.Errorf("write --iidfile: %w", err)
	}
	return nil
}

// writeMetadata writes the exporter's response as docker buildx build
// --metadata-file does: values that hold JSON, plain or in base64, as such.
func writeMetadata(o *options, d engine.Delivered) error {
	if o.metadataFile == "" {
		return nil
	}
	metadata := map[string]any{}
	for key, value := range d.Metadata {
		metadata[key] = value
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(raw) == 0 || raw[0] != '{' {
			raw = []byte(value)
		}
		if json.Valid(raw) && len(raw) > 0 && raw[0] == '{' {
			metadata[key] = json.RawMessage(raw)
		}
	}
	document, err := json.MarshalIndent(metadata, "", "  ")
	if err == nil {
		err = os.WriteFile(o.metadataFile, append(document, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write --metadata-file: %w", err)
	}
	return nil
}

// printID prints the image ID for --quiet, as docker build does.
func (s surroundings) printID(o *options, d engine.Delivered) error {
	if !o.quiet || d.ImageID == "" {
		return nil
	}
	_, err := fmt.Fprintln(s.stdout, d.ImageID)
	return err
}

// tellMountsSaved tells of the cache mounts that save saved, or not; false if
// there was nothing to tell.
func (s surroundings) tellMountsSaved(m *mountKeeper) bool {
	told := false
	for _, mount := range m.plan.Mounts {
		r := m.records[mount.Mount.Key()]
		if r.saveErr != nil && !errors.Is(r.saveErr, errMountEmpty) {
			s.talk("warning: cache mount %s is not saved: %v", mount.Mount.Key(), r.saveErr)
			told = true
		}
		for _, one := range r.saved {
			told = true
			if one.Err != nil {
				s.talk("warning: cache mount %s is not saved to %s: %v", mount.Mount.Key(), one.Ref, one.Err)
				continue
			}
			s.talk("cache mount %s is saved to %s", mount.Mount.Key(), one.Ref)
		}
	}
	return told
}
