package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/advice"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// advise finds which cache mounts the Dockerfile lacks, and with
// --auto-cache-mounts adds them to the file that is built. Where that is not
// possible, it is skipped, and the advice stays.
func (p *prepared) advise(o *options) (skips []cache.Skip) {
	auto := advice.Auto{Left: advice.Find(p.file, p.stages)}
	if o.autoCacheMounts {
		if reason := withoutMounts(syntaxOf(o, p.file)); reason != "" {
			skips = append(skips, cache.Skip{What: "adding cache mounts", Reason: reason})
		} else {
			auto = advice.Automatic(p.file, p.stages)
		}
	}
	for len(auto.Edits) > 0 {
		edited, err := p.file.Edited(auto.Edits)
		if err == nil {
			p.file = edited
			break
		}
		what, edits := "adding cache mounts", []stages.Edit(nil)
		if e, ok := errors.AsType[*stages.EditError](err); ok {
			what = fmt.Sprintf("adding cache mounts at line %d", e.Line)
			edits = slices.DeleteFunc(slices.Clone(auto.Edits), func(edit stages.Edit) bool { return edit.Line == e.Line })
		}
		skips = append(skips, cache.Skip{What: what, Reason: err.Error()})
		if len(edits) == len(auto.Edits) {
			edits = nil
		}
		auto.Edits = edits
	}
	for _, secret := range auto.Secrets {
		p.values = append(p.values, engine.SecretValue{ID: secret.ID, Value: secret.Value})
	}
	if o.advice {
		p.advice = auto.Left
	}
	return skips
}

// withoutMounts tells why the frontend that a Dockerfile asks for may know no
// cache mounts, "" if it does: docker/dockerfile has them since 1.2.
func withoutMounts(syntax string) string {
	if syntax == "" {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(syntax)
	if err != nil {
		return ""
	}
	tag := ""
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	switch name := reference.FamiliarName(named); {
	case name != "docker/dockerfile" && name != "docker/dockerfile-upstream":
		return "the frontend " + syntax + " may not know them"
	case tag == "1.0" || tag == "1.1" || strings.HasPrefix(tag, "1.0.") || strings.HasPrefix(tag, "1.1."), strings.HasPrefix(tag, "1.0-"), strings.HasPrefix(tag, "1.1-"):
		return "the frontend " + syntax + " does not know them"
	}
	return ""
}

// check tells whether the engine can do what the options ask.
func check(e *engine.Engine, o *options) error {
	if o.autoCacheMounts && !e.BuildKit {
		return &engine.UnsupportedError{Option: "--auto-cache-mounts", Engine: e.Name, Remedy: "use a builder with BuildKit, without DOCKER_BUILDKIT=0"}
	}
	return e.Check(o.build)
}

func (p *prepared) reportedAdvice() []report.Advice {
	var reported []report.Advice
	for _, f := range p.advice {
		one := report.Advice{Stage: p.file.Stages[f.Stage].Target(), Line: f.Line, Tool: f.Tool, Text: f.Text()}
		for _, m := range f.Mounts {
			one.Mounts = append(one.Mounts, m.Flag())
		}
		reported = append(reported, one)
	}
	return reported
}

// print shows the plan, and what goes beyond it.
func (p *prepared) print(w io.Writer) error {
	if err := p.plan.Fprint(w); err != nil {
		return err
	}
	for i, one := range p.reportedAdvice() {
		if i == 0 {
			fmt.Fprintln(w)
		}
		if _, err := fmt.Fprintf(w, "advice for line %d: %s\n", one.Line, one.Text); err != nil {
			return err
		}
	}
	return nil
}
