package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// What people are shown: lower case and no full stop, what matters most last,
// every text of others cleaned and bounded (the JSON has it all).
const (
	defaultWidth = 80
	mostMessage  = 500 // characters of a warning or an error
	mostLines    = 8   // of one kind: warnings, failed steps, ...
	maxTag       = 128 // characters of a tag (OCI distribution spec) or of a stage
)

// Options of Fprint.
type Options struct {
	Width int  // in columns; 80 if zero
	Color bool // by ANSI sequences
}

// Fprint writes a short table of r for people.
func Fprint(w io.Writer, r Report, o Options) error {
	if o.Width <= 0 {
		o.Width = defaultWidth
	}
	p := &printer{Options: o}
	p.header(r)
	p.table(r)
	p.mounts(r)
	p.totals(r)
	p.notes(r)
	p.ending(r)
	_, err := io.WriteString(w, p.text.String())
	return err
}

// style is an ANSI SGR parameter (ECMA-48, 8.3.117).
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

type printer struct {
	Options
	text strings.Builder
}

func (p *printer) line(s style, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.Color && s != plain {
		text = "\x1b[" + string(s) + "m" + text + "\x1b[0m"
	}
	p.text.WriteString(text + "\n")
}

func (p *printer) blank() { p.line(plain, "") }

// lines prints the first few of many.
func (p *printer) lines(s style, lines []string) {
	for i, line := range lines {
		if i == mostLines {
			p.line(s, "and %d more", len(lines)-mostLines)
			return
		}
		p.line(s, "%s", line)
	}
}

func (p *printer) header(r Report) {
	text := clean(r.Image)
	if r.Branch != "" {
		text += ", branch " + clean(r.Branch)
	}
	if r.DefaultBranch != "" && r.DefaultBranch != r.Branch {
		text += " (default " + clean(r.DefaultBranch) + ")"
	}
	if r.Engine != "" {
		text += ", " + clean(r.Engine)
	}
	p.line(bold, "%s", cut(text, mostMessage))
	p.blank()
}

// totals are of the steps, then of the run's time.
func (p *printer) totals(r Report) {
	var t tally
	for _, stage := range r.Stages {
		t.add(stage.Steps)
	}
	if t.steps > 0 {
		text := fmt.Sprintf("%s: %d cached%s, %d ran", plural(t.steps, "step"), t.cached, hits(r), t.ran)
		if t.spared > 0 {
			text = fmt.Sprintf("%s: %d cached%s, saving %s, %d ran",
				plural(t.steps, "step"), t.cached, hits(r), duration(t.spared), t.ran)
		}
		for _, rest := range []struct {
			count int
			what  string
		}{{t.failed, "failed"}, {t.canceled, "canceled"}, {t.pending, "not reached"}} {
			if rest.count > 0 {
				text += fmt.Sprintf(", %d %s", rest.count, rest.what)
			}
		}
		p.line(plain, "%s", text)
	}
	var phases []string
	for _, phase := range r.Phases {
		phases = append(phases, clean(phase.Name)+" "+duration(phase.Seconds))
	}
	text := "took " + duration(r.Seconds)
	if len(phases) > 0 {
		text += ": " + strings.Join(phases, ", ")
	}
	p.line(plain, "%s", cut(text, mostMessage))
}

// hits tells which levels the cached steps came from when caches were merged.
func hits(r Report) string {
	level := map[string]string{} // of a ref
	for _, l := range r.Lineages {
		level[l.Ref] = l.Level
	}
	count := map[string]int{} // by level
	for _, stage := range r.Stages {
		for _, s := range stage.Steps {
			if s.Status == Cached && s.From != "" {
				count[level[s.From]]++
			}
		}
	}
	var texts []string
	for _, l := range r.Lineages {
		if n := count[l.Level]; n > 0 {
			texts = append(texts, fmt.Sprintf("%d from %s", n, clean(l.Level)))
			delete(count, l.Level)
		}
	}
	if texts == nil {
		return ""
	}
	return " (" + some(texts) + ")"
}

// notes are the warnings, the skips, the advice and the losses of the cache.
func (p *printer) notes(r Report) {
	var warnings, skips, advice []string
	for _, text := range r.Warnings {
		warnings = append(warnings, "warning: "+cut(clean(text), mostMessage))
	}
	for _, skip := range r.Skips {
		skips = append(skips, cut("skipped "+clean(skip.What)+": "+clean(skip.Reason), mostMessage))
	}
	p.lines(yellow, warnings)
	for _, a := range r.Advice {
		advice = append(advice, cut(fmt.Sprintf("advice: line %d, %s", a.Line, clean(a.Text)), mostMessage))
	}
	p.lines(plain, skips)
	p.lines(plain, advice)
	p.lines(yellow, r.Losses())
}

// Losses tell of the saves that went wrong, for people. A registry that
// refuses one mostly refuses all: those of one reason share a line.
func (r Report) Losses() []string {
	var reasons []string
	tags := map[string][]string{} // by reason
	var all [][]Saved
	for _, stage := range r.Stages {
		all = append(all, stage.Saved)
	}
	for _, mount := range r.Mounts {
		all = append(all, mount.Saved)
	}
	for _, saved := range all {
		for _, s := range saved {
			if s.Error == "" {
				continue
			}
			if tags[s.Error] == nil {
				reasons = append(reasons, s.Error)
			}
			if tag := cut(tag(s.Ref), maxTag); !slices.Contains(tags[s.Error], tag) {
				tags[s.Error] = append(tags[s.Error], tag)
			}
		}
	}
	var lines []string
	for _, reason := range reasons {
		lines = append(lines, "cache lost, not saved to "+some(tags[reason])+": "+cut(clean(reason), mostMessage))
	}
	return lines
}

// ending tells what came out of it: the image, or what stopped the build and
// what the next one need not repeat (issue C, "What to build" 7).
func (p *printer) ending(r Report) {
	ok := r.Result.Status == OK
	if !ok {
		p.blank()
		p.stop(r)
	}
	p.resume(r.Stages, !ok)
	if ok {
		image := clean(r.Image)
		if r.Result.Digest != "" {
			image += "@" + clean(r.Result.Digest)
		}
		if r.Result.Pushed {
			p.line(green, "pushed %s", cut(image, mostMessage))
		} else {
			p.line(green, "built %s, not pushed", cut(image, mostMessage))
		}
	}
}

// stop names the steps that failed or were canceled, and the error.
func (p *printer) stop(r Report) {
	var lines []string
	for _, stage := range r.Stages {
		for _, s := range stage.Steps {
			if s.Status == Failed || s.Status == Canceled {
				lines = append(lines, cut(fmt.Sprintf("%s: %s, line %d: %s",
					s.Status, cut(clean(stage.Name), maxTag), s.Line, clean(s.Instruction)), p.Width))
			}
		}
	}
	p.lines(red, lines)
	switch {
	case r.Result.Error != "":
		p.line(red, "error: %s", cut(clean(r.Result.Error), mostMessage))
	case len(lines) == 0:
		p.line(red, "%s", cut(clean(string(r.Result.Status)), p.Width))
	}
}

// resume tells what of this run's work the next build has and what it lacks.
func (p *printer) resume(stages []Stage, stopped bool) {
	var kept []string
	var all tally
	for _, stage := range stages {
		t := tallyOf(stage.Steps)
		all.add(stage.Steps)
		if t.saved == 0 || t.ran+t.failed+t.canceled == 0 {
			continue
		}
		text := fmt.Sprintf("  %d of %s of %s saved", t.saved, plural(t.steps, "step"), cut(clean(stage.Name), maxTag))
		if t.savedSeconds > 0 {
			text += ", " + duration(t.savedSeconds) + " of work"
		}
		kept = append(kept, text)
	}
	if stopped && len(kept) > 0 {
		p.line(plain, "the next build will not repeat:")
		p.lines(plain, kept)
	}
	if all.lost > 0 {
		p.line(yellow, "the next build will repeat %s not saved, %s of work", plural(all.lost, "step"), duration(all.lostSeconds))
	}
}
