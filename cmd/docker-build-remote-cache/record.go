package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/ci/dialect"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
	"golang.org/x/term"
)

// recorder gathers the report while the run goes on, and tells the platform.
type recorder struct {
	platform   *platform
	prepared   *prepared
	dockerfile string
	started    time.Time
	report     report.Report
	found      cache.Found
	from       map[int]string // the caches of cached steps, by line
}

func newRecorder(on *platform, o *options, p *prepared) *recorder {
	on.group("build " + p.plan.Image.String())
	r := &recorder{platform: on, prepared: p, dockerfile: o.build.Dockerfile, started: time.Now()}
	r.report = report.Report{
		Version: version(), Image: p.plan.Image.String(),
		Branch: p.plan.Branch.Name, DefaultBranch: p.plan.Default.Name,
		Trust: string(p.plan.Origin.Trust), TrustReason: p.plan.Origin.Reason,
	}
	r.report.Advice = p.reportedAdvice()
	return r
}

// engine names the engine. Without BuildKit no step can have the mounts of the
// advice.
func (r *recorder) engine(name string, buildKit bool) {
	r.report.Engine = name
	if !buildKit && len(r.report.Advice) > 0 {
		r.report.Advice = nil
		r.report.Skips = append(r.report.Skips, report.Skip{What: "advice", Reason: "it is of cache mounts, which the classic builder has not; BuildKit has (DOCKER_BUILDKIT=1)"})
	}
}

func (r *recorder) phase(name string, started time.Time) {
	r.report.Phases = append(r.report.Phases, report.Phase{Name: name, Seconds: time.Since(started).Seconds()})
}

func (r *recorder) lookedUp(f cache.Found, v cache.View, started time.Time) {
	r.phase("lookup", started)
	r.found = f
	for _, skip := range r.prepared.plan.Skips {
		r.report.Skips = append(r.report.Skips, report.Skip{What: skip.What, Reason: skip.Reason})
	}
	r.report.Warnings = append(append(r.report.Warnings, f.Warnings...), v.Warnings...)
	for _, l := range v.Lineages {
		r.report.Lineages = append(r.report.Lineages, report.Lineage{
			Ref: l.Ref.String(), Level: string(l.Level), Stage: l.Slot.Stage, Digest: l.Root.Digest.String(),
		})
	}
	for _, plan := range r.prepared.plan.Stages {
		stage := report.Stage{Name: plan.Name}
		if of := v.Of(plan.Name); len(of) > 0 {
			stage.Imported = &report.Imported{Ref: of[0].Ref.String(), Level: string(of[0].Level)}
		}
		r.report.Stages = append(r.report.Stages, stage)
	}
}

func (r *recorder) built(outcome engine.Outcome, started time.Time) {
	r.phase("build", started)
	r.report.Result.Status = report.Status(outcome.Result)
	r.report.Result.Error = r.prepared.message(outcome)
	r.platform.endGroup()
	switch outcome.Result {
	case engine.BuildFailed:
		r.platform.annotate(dialect.Error, r.dockerfile, outcome.Line, r.prepared.message(outcome))
	case engine.OK:
		r.platform.group("push the image and save the cache")
	}
}

func (r *recorder) delivered(d engine.Delivered, err error) {
	r.report.Result.Digest, r.report.Result.Pushed = d.Digest, d.Digest != ""
	if err != nil {
		r.report.Result.Status, r.report.Result.Error = report.Failed, err.Error()
	}
}

// attribute notes for each cached step which cache it came from. Engines that
// cannot tell leave it open, and what could not be asked is said.
func (r *recorder) attribute(ctx context.Context, b engine.Build, v cache.View) {
	r.from = map[int]string{}
	several := false
	for _, step := range b.Steps() {
		if step.Status == engine.Cached {
			r.from[step.Line] = v.OnlyFrom(r.prepared.file.Stages[step.Stage].Target())
			several = several || r.from[step.Line] == ""
		}
	}
	reacher, ok := b.(engine.Reacher)
	if !ok || !several || v.Empty() || v.Served != nil {
		return // of a served view the daemon would fetch all layers to tell
	}
	reached, err := reacher.Reached(ctx)
	if err != nil {
		r.report.Warnings = append(r.report.Warnings, err.Error())
		return
	}
	for _, step := range b.Steps() {
		if step.Status == engine.Cached {
			r.from[step.Line] = v.From(r.prepared.file.Stages[step.Stage].Target(), reached[step.Line]...)
		}
	}
}

func (r *recorder) saved(steps []engine.Step, saved []cache.Saved, k *keeper, started time.Time) {
	r.phase("save", started)
	r.report.Warnings = append(r.report.Warnings, k.saver.Warnings()...)
	held := k.saver.Held()
	r.report.Seconds = time.Since(r.started).Seconds()
	for i, plan := range r.prepared.plan.Stages {
		stage := &r.report.Stages[i]
		written := false
		for _, one := range saved {
			if one.Stage != plan.Name {
				continue
			}
			entry := report.Saved{Ref: one.Ref.String()}
			if one.Err != nil {
				entry.Error = one.Err.Error()
			} else {
				written = true
			}
			stage.Saved = append(stage.Saved, entry)
			if one.Note != "" {
				r.report.Warnings = append(r.report.Warnings, "saved at "+one.Ref.String()+": "+one.Note)
			}
		}
		for _, step := range steps {
			if step.Stage != plan.Index {
				continue
			}
			stage.Steps = append(stage.Steps, report.Step{
				Line: step.Line, Instruction: step.Instruction, Status: report.Status(step.Status), Seconds: step.Duration.Seconds(),
				Saved: step.Status == engine.Cached && k.imported || step.Complete() && (slices.Contains(held, step.Line) || written && !k.engine.RegistryCache),
				From:  r.from[step.Line],
			})
			if step.Status == engine.Cached {
				last := &stage.Steps[len(stage.Steps)-1]
				last.SavedSeconds = r.found.Took(plan.Name, step.Instruction).Seconds()
			}
		}
	}
}

// mounts notes what became of the cache mounts.
func (r *recorder) mounts(m *mountKeeper, outcome engine.Outcome) {
	for _, plan := range m.plan.Mounts {
		key := plan.Mount.Key()
		record, found := m.records[key], m.found.Mounts[key]
		one := report.Mount{Name: key, Stages: plan.Stages, Used: record.touched}
		if record.tried {
			one.Restored = &report.MountRestored{
				Ref: found.Ref.String(), Level: string(found.Slot.Level), Warm: record.restored.Warm, Seconds: record.restoreTook.Seconds(),
				Entries: record.restored.Entries, Bytes: record.restored.Bytes, Downloaded: record.restored.Downloaded,
			}
			if record.restoreErr != nil {
				one.Restored.Error = record.restoreErr.Error()
			}
		}
		if record.touched && len(plan.Writes) > 0 && record.saveErr == nil && record.saveTook > 0 {
			c := record.changes
			one.Changes = &report.MountChanges{
				New: c.New, Changed: c.Changed, Removed: c.Removed, NewBytes: c.NewBytes, Uploaded: c.Uploaded,
				Entries: c.Entries, Bytes: c.Bytes, Seconds: record.saveTook.Seconds(),
			}
		}
		for _, saved := range record.saved {
			entry := report.Saved{Ref: saved.Ref.String()}
			if saved.Err != nil {
				entry.Error = saved.Err.Error()
			}
			one.Saved = append(one.Saved, entry)
		}
		one.Note = mountNote(plan, record, found, outcome)
		r.report.Mounts = append(r.report.Mounts, one)
	}
}

// mountNote says what the figures of a mount do not: why it is not saved, or
// was not restored.
func mountNote(plan cache.MountPlan, record *mountRecord, found cache.FoundMount, outcome engine.Outcome) string {
	switch {
	case record.touched && !record.tried && found.Ref.Tag != "":
		return "its step was expected to be a hit, and ran"
	case record.saveErr != nil:
		return record.saveErr.Error()
	case record.changes.LeftOut+record.changes.Busy > 0:
		return fmt.Sprintf("left out: %d sockets and devices, %d files that changed meanwhile", record.changes.LeftOut, record.changes.Busy)
	case !record.touched && outcome.Result == engine.OK:
		return "its steps were cached"
	case record.touched && len(plan.Writes) == 0 && plan.Mount.ReadOnly:
		return "no step may write to it"
	}
	return ""
}

// write prints the table for people, writes the file for machines, and tells
// the platform.
func (r *recorder) write(s surroundings, o *options) error {
	r.platform.endGroup()
	r.report.Warnings = slices.Concat(r.prepared.warnings, r.report.Warnings)
	if !o.quiet {
		width, color := 0, false
		if isTerminal(s.stderr) {
			width, _, _ = term.GetSize(int(s.stderr.(*os.File).Fd()))
			color = s.getenv("NO_COLOR") == ""
		}
		if err := report.Fprint(s.stderr, r.report, report.Options{Width: width, Color: color}); err != nil {
			return err
		}
	}
	file, err := o.report, error(nil)
	if file == "" {
		file, err = r.platform.reportFile()
	}
	if file != "" {
		err = r.report.WriteFile(file)
	}
	return errors.Join(err, r.platform.tell(r.report, file))
}
