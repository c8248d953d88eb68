package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// argName is what an ARG can be called that a RUN step sees.
var argName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// builtinArg are names that BuildKit itself reads or sets
// (docs.docker.com/reference/dockerfile/#predefined-args).
var builtinArg = regexp.MustCompile(`^(BUILDKIT_.*|SOURCE_DATE_EPOCH|(TARGET|BUILD)(PLATFORM|OS|OSVERSION|ARCH|VARIANT)|TARGETSTAGE)$`)

// predefinedArg are names whose values BuildKit gives to RUN steps without
// keeping them, if the Dockerfile does not declare them.
var predefinedArg = regexp.MustCompile(`(?i)^(http|https|ftp|no|all)_proxy$`)

// setVolatile takes one NAME or NAME=VALUE; of a name that is given twice, the
// last counts. Where no value is written, finishVolatile finds it.
func (p *parser) setVolatile(s string) error {
	name, value, written := strings.Cut(s, "=")
	switch {
	case name == "":
		return errNoName
	case !argName.MatchString(name):
		return fmt.Errorf("the name is not one of letters, digits and underscores")
	case builtinArg.MatchString(name):
		return fmt.Errorf("%s is set or read by BuildKit itself", name)
	}
	o := p.options
	o.volatile = append(slices.DeleteFunc(o.volatile, func(arg stages.VolatileArg) bool { return arg.Name == name }),
		stages.VolatileArg{Name: name, Value: value, Given: written})
	return nil
}

// setVolatileList takes the variable: an argument a line, and of names alone
// several, with commas or spaces between.
func (p *parser) setVolatileList(s string) error {
	for line := range strings.Lines(s) {
		words := []string{strings.TrimSpace(line)}
		if !strings.Contains(line, "=") {
			words = strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
		}
		for _, word := range words {
			if word == "" {
				continue
			}
			if err := p.setVolatile(word); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishVolatile takes values that are not written from --build-arg, which a
// script may go on giving, or from the environment. What is volatile is no
// build argument.
func (p *parser) finishVolatile() {
	o, b := p.options, &p.options.build
	for i := range o.volatile {
		arg := &o.volatile[i]
		at := slices.IndexFunc(b.BuildArgs, func(other engine.BuildArg) bool { return other.Name == arg.Name })
		switch {
		case at >= 0 && !arg.Given:
			arg.Value, arg.Given = b.BuildArgs[at].Value, true
		case !arg.Given:
			arg.Value, arg.Given = p.lookupEnv(arg.Name)
		}
		if at >= 0 {
			b.BuildArgs = slices.Delete(b.BuildArgs, at, at+1)
		}
	}
}

// withoutValues are the arguments of a command line without the values of
// volatile ones: they are written to files.
func withoutValues(args []string, volatile []stages.VolatileArg) []string {
	nameOf := func(value string) string {
		name, _, _ := strings.Cut(value, "=")
		if slices.ContainsFunc(volatile, func(arg stages.VolatileArg) bool { return arg.Name == name }) {
			return name
		}
		return value
	}
	kept := slices.Clone(args)
	for i, arg := range kept {
		for _, option := range []string{"--volatile-arg", "--build-arg"} {
			if value, ok := strings.CutPrefix(arg, option+"="); ok {
				kept[i] = option + "=" + nameOf(value)
			} else if arg == option && i+1 < len(kept) {
				kept[i+1] = nameOf(kept[i+1])
			}
		}
	}
	return kept
}

// forgetValues takes the values of volatile arguments out of what was read of
// the environment.
func forgetValues(read map[string]*string, volatile []stages.VolatileArg) {
	var names []string
	for _, arg := range volatile {
		delete(read, arg.Name)
		names = append(names, arg.Name)
	}
	const variable = ownPrefix + "VOLATILE_ARG"
	if read[variable] != nil {
		list := strings.Join(names, "\n")
		read[variable] = &list
	}
}

// checkVolatile refuses, before anything is asked, what no engine can do.
func (p *prepared) checkVolatile(s surroundings, o *options) error {
	v, err := p.file.Volatile(o.volatile, p.stages, true)
	if err != nil {
		return &dockerfileError{o.build.Dockerfile, err}
	}
	for _, name := range v.Undeclared {
		i := slices.IndexFunc(o.volatile, func(arg stages.VolatileArg) bool { return arg.Name == name })
		arg := o.volatile[i]
		o.volatile = slices.Delete(slices.Clone(o.volatile), i, i+1)
		if !predefinedArg.MatchString(name) {
			p.warn(s, "--volatile-arg %s has no effect: the Dockerfile has no ARG %s", name, name)
		} else if arg.Given {
			o.build.BuildArgs = append(o.build.BuildArgs, engine.BuildArg{Name: name, Value: arg.Value})
		}
	}
	for _, unset := range v.Unset {
		if o.quiet {
			break
		}
		s.talk("%s (line %d) is set for RUN steps only, not in the image: it comes from the volatile %s", unset.Name, unset.Line, unset.Arg)
	}
	return nil
}

// message is why a build did not succeed.
func (p *prepared) message(outcome engine.Outcome) string {
	return outcome.Message(engine.Request{File: p.file, Progress: engine.Progress{Hidden: p.hidden}})
}

// editFile makes the Dockerfile that is built of the one that people wrote. It
// depends on the Dockerfile, the options and what the engine's frontend knows,
// so that it is always the same on one engine: it is a part of cache keys.
func (p *prepared) editFile(ctx context.Context, s surroundings, e *engine.Engine, o *options) error {
	if len(o.volatile) == 0 {
		return nil
	}
	if !e.BuildKit {
		return &engine.UnsupportedError{Option: "--volatile-arg " + o.volatile[0].Name, Engine: e.Name,
			Remedy: "it has no secrets: build with BuildKit (DOCKER_BUILDKIT=1), or give the argument with --build-arg"}
	}
	secretEnv, err := e.SecretEnv(ctx, o.build, p.file)
	if err != nil {
		return err
	}
	v, err := p.file.Volatile(o.volatile, p.stages, secretEnv)
	if err == nil {
		p.file, err = p.file.Edited(v.Edits)
	}
	if err != nil {
		return &dockerfileError{o.build.Dockerfile, err}
	}
	for _, value := range v.Values {
		o.build.Values = append(o.build.Values, engine.SecretValue{ID: value.ID, Value: []byte(value.Text)})
		p.hidden = append(p.hidden, value.Value)
	}
	for _, value := range p.hidden {
		s.mask(value)
	}
	return nil
}
