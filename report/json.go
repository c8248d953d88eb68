package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"

	"github.com/moby/sys/atomicwriter"
)

// schemaVersion is raised when a field changes its meaning or goes away, not
// when one is added.
const schemaVersion = 1

// Write writes r as indented JSON as schema.json describes it, the same bytes
// for the same report. Lists are never null, times are rounded to the
// millisecond.
func (r Report) Write(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // && and < are common in instructions
	if err := encoder.Encode(r.normalised()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteFile writes r to a file that is never seen half written: CI collects
// artefacts even of a job that it kills. It refuses what is no regular file.
func (r Report) WriteFile(path string) error {
	var text bytes.Buffer
	if err := r.Write(&text); err != nil {
		return err
	}
	if err := atomicwriter.WriteFile(path, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// normalised is a copy of r as the schema wants it.
func (r Report) normalised() Report {
	r.SchemaVersion = schemaVersion
	r.Seconds = milliseconds(r.Seconds)
	r.Phases = list(r.Phases)
	for i := range r.Phases {
		r.Phases[i].Seconds = milliseconds(r.Phases[i].Seconds)
	}
	r.Stages = list(r.Stages)
	for i := range r.Stages {
		stage := &r.Stages[i]
		stage.Saved = list(stage.Saved)
		stage.Steps = list(stage.Steps)
		for j := range stage.Steps {
			step := &stage.Steps[j]
			step.Seconds, step.SavedSeconds = milliseconds(step.Seconds), milliseconds(step.SavedSeconds)
			if step.Status == "" {
				step.Status = Pending
			}
		}
	}
	r.Lineages = list(r.Lineages)
	r.Mounts = list(r.Mounts)
	for i := range r.Mounts {
		mount := &r.Mounts[i]
		mount.Stages, mount.Saved = list(mount.Stages), list(mount.Saved)
		if mount.Restored != nil {
			restored := *mount.Restored
			restored.Seconds = milliseconds(restored.Seconds)
			mount.Restored = &restored
		}
		if mount.Changes != nil {
			changes := *mount.Changes
			changes.Seconds = milliseconds(changes.Seconds)
			mount.Changes = &changes
		}
	}
	r.Skips = list(r.Skips)
	r.Warnings = list(r.Warnings)
	return r
}

// list is a copy that is not nil.
func list[T any](s []T) []T { return append([]T{}, s...) }

func milliseconds(seconds float64) float64 { return math.Round(seconds*1000) / 1000 }
