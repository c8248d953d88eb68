package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

// letters stand for what became of a step.
var letters = map[report.Status]string{
	report.Cached: "c", report.Ran: "r", report.Failed: "f", report.Canceled: "x", report.Pending: "-",
}

// steps sums up a report: of each stage what became of its steps, in their
// order, as in "builder=ccr 1=r".
func (o outcome) steps() string {
	var all []string
	for _, stage := range o.report.Stages {
		text := stage.Name + "="
		for _, step := range stage.Steps {
			text += letters[step.Status]
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// wantSteps compares what became of the steps with letters as above. Where that
// depends on which of two stages is faster, want has them in brackets.
func (o outcome) wantSteps(t *testing.T, want string) {
	t.Helper()
	if got := o.steps(); !regexp.MustCompile("^" + want + "$").MatchString(got) {
		t.Fatalf("%s:\nsteps are %s,\n    want %s\n%s", o.args, got, want, o.stderr)
	}
}

// saved lists the tags that were written, as in "feat-x-builder builder".
// Those that failed to be have a !.
func (o outcome) saved() string {
	var all []string
	for _, stage := range o.report.Stages {
		for _, saved := range stage.Saved {
			tag := saved.Ref[strings.LastIndex(saved.Ref, ":")+1:]
			if saved.Error != "" {
				tag += "!"
			}
			all = append(all, tag)
		}
	}
	return strings.Join(all, " ")
}

// wantSaved compares the tags with an expression.
func (o outcome) wantSaved(t *testing.T, want string) {
	t.Helper()
	if got := o.saved(); !regexp.MustCompile("^" + want + "$").MatchString(got) {
		t.Fatalf("%s:\nsaved are %q,\n    want %q\n%s", o.args, got, want, o.stderr)
	}
}

// imported lists the level of the cache of each stage, as in
// "builder=branch 1=none".
func (o outcome) imported() string {
	var all []string
	for _, stage := range o.report.Stages {
		level := "none"
		if stage.Imported != nil {
			level = stage.Imported.Level
		}
		all = append(all, fmt.Sprintf("%s=%s", stage.Name, level))
	}
	return strings.Join(all, " ")
}

func (o outcome) wantImported(t *testing.T, want string) {
	t.Helper()
	if got := o.imported(); got != want {
		t.Fatalf("%s:\nimported is %s,\n     want %s\n%s", o.args, got, want, o.stderr)
	}
}

// wantSaid looks for each of the expressions in what was said to people.
func (o outcome) wantSaid(t *testing.T, expressions ...string) {
	t.Helper()
	for _, expression := range expressions {
		if !regexp.MustCompile("(?m)" + expression).MatchString(o.stderr) {
			t.Errorf("%s: did not say %q:\n%s", o.args, expression, o.stderr)
		}
	}
}

func (o outcome) wantUnsaid(t *testing.T, expressions ...string) {
	t.Helper()
	for _, expression := range expressions {
		if regexp.MustCompile("(?m)" + expression).MatchString(o.stderr) {
			t.Errorf("%s: said %q:\n%s", o.args, expression, o.stderr)
		}
	}
}
