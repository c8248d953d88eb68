package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Markdown is a summary of r for the page of a CI job: a table of the stages
// and what to know beside it. What others wrote stands in code spans, from
// which it can neither format nor link nor mention anybody.
func (r Report) Markdown() string {
	var b strings.Builder
	var all tally
	for _, stage := range r.Stages {
		all.add(stage.Steps)
	}
	fmt.Fprintf(&b, "### %s %s", code(r.Image), cmp.Or(r.Result.Status, Pending))
	if all.steps > 0 {
		fmt.Fprintf(&b, ", %d of %s cached", all.cached, plural(all.steps, "step"))
	}
	b.WriteString("\n\n")
	r.markdownTable(&b)
	r.markdownMounts(&b)
	r.markdownNotes(&b)
	return b.String()
}

// mostMarkdownRows keeps the summary far below what platforms take.
const mostMarkdownRows = 200

func (r Report) markdownTable(b *strings.Builder) {
	if len(r.Stages) == 0 {
		return
	}
	var all tally
	for _, stage := range r.Stages {
		all.add(stage.Steps)
	}
	known := all.spared > 0 // otherwise there is no such column
	b.WriteString("| stage | imported from | cached | ran | time |" + only(known, " time saved |") + " saved |\n")
	b.WriteString("|---|---|--:|--:|--:|" + only(known, "--:|") + "---|\n")
	for i, stage := range r.Stages {
		if i == mostMarkdownRows {
			fmt.Fprintf(b, "\nand %s more\n", plural(len(r.Stages)-i, "stage"))
			break
		}
		t := tallyOf(stage.Steps)
		tags, levels := sources(stage, r.Lineages)
		var from []string
		for j, tag := range tags {
			if tag == fromNothing && levels[j] == noLevel {
				from = append(from, tag)
			} else {
				from = append(from, cell(tag)+" ("+cell(levels[j])+")")
			}
		}
		cells := stageRow(stage, t, nil).cells
		spared := "-"
		if t.spared > 0 {
			spared = duration(t.spared)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |%s %s |\n", cell(stage.Name), some(from),
			cells[columnCached][0], cells[columnRan][0], cells[columnTime][0], only(known, " "+spared+" |"), markdownSaved(stage, t))
	}
	b.WriteString("\n")
}

func only(condition bool, text string) string {
	if condition {
		return text
	}
	return ""
}

// markdownSaved is where a stage was saved to, or why nowhere.
func markdownSaved(stage Stage, t tally) string {
	texts := saved(stage, t)
	for _, s := range stage.Saved {
		if s.Error == "" { // then all of them are tags
			for i := range texts {
				texts[i] = cell(texts[i])
			}
			break
		}
	}
	return some(texts)
}

// markdownNotes are the list under the table.
func (r Report) markdownNotes(b *strings.Builder) {
	var stopped, skips, warnings, advice []string
	for _, stage := range r.Stages {
		for _, s := range stage.Steps {
			if s.Status == Failed || s.Status == Canceled {
				stopped = append(stopped, fmt.Sprintf("**%s** at line %d, stage %s: %s", s.Status, s.Line, code(stage.Name), code(s.Instruction)))
			}
		}
	}
	for _, skip := range r.Skips {
		skips = append(skips, "skipped "+code(skip.What)+": "+code(skip.Reason))
	}
	for _, warning := range slices.Concat(r.Warnings, r.Losses()) {
		warnings = append(warnings, "warning: "+code(warning))
	}
	for _, a := range r.Advice {
		advice = append(advice, fmt.Sprintf("advice for line %d: %s", a.Line, code(a.Text)))
	}
	var phases []string
	for _, phase := range r.Phases {
		phases = append(phases, code(phase.Name)+" "+duration(phase.Seconds))
	}
	took := "took " + duration(r.Seconds)
	if len(phases) > 0 {
		took += ": " + some(phases)
	}
	items(b, stopped)
	items(b, known("error", r.Result.Error))
	items(b, known("digest", r.Result.Digest))
	items(b, known("branch", r.Branch))
	items(b, skips)
	items(b, warnings)
	items(b, advice)
	items(b, []string{took})
}

// known is what to tell of a text that may be empty.
func known(what, text string) []string {
	if text == "" {
		return nil
	}
	return []string{what + " " + code(text)}
}

// items prints the first few of many.
func items(b *strings.Builder, texts []string) {
	for i, text := range texts {
		if i == mostLines {
			fmt.Fprintf(b, "- and %d more\n", len(texts)-mostLines)
			return
		}
		b.WriteString("- " + text + "\n")
	}
}

// code makes a code span of a text.
func code(text string) string {
	text = cut(strings.ReplaceAll(clean(text), "`", "'"), mostMessage)
	if text == "" {
		return "-"
	}
	return "`" + text + "`"
}

// cell is code in a table, where a bar would end the cell, and a backslash
// before it would not always help.
func cell(text string) string { return code(strings.ReplaceAll(text, "|", "\u00a6")) }
