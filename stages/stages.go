// Package stages reads a Dockerfile as plain data: its stages in order, the
// instructions of each with their lines, and which stage needs which. It also
// writes the variants of a Dockerfile that the tool builds instead of the
// original, always with the original's lines at the original's numbers.
//
// The grammar is BuildKit's own parser; where a name refers to is decided as
// BuildKit's frontend does (frontend/dockerfile/dockerfile2llb/convert.go of
// v0.34.2, called convert.go below). The package does no I/O.
//
// No API stability is promised: the product is the command.
package stages

import "strconv"

// File is a parsed Dockerfile with at least one stage.
type File struct {
	// Source is the text that was parsed, byte for byte; of an Edited file, the
	// text to build.
	Source []byte
	// Syntax is the frontend image that the file asks for by its syntax
	// directive, "" if it asks for none.
	Syntax string
	// TargetStage is what the predefined ARG TARGETSTAGE expands to in this
	// build, "" if the text does not mention it. A rewritten file has another
	// target: pass this value as build argument TARGETSTAGE with it, or the
	// steps that see the ARG get other cache keys.
	TargetStage string
	Stages      []Stage

	end     ending
	options Options // of Parse

	// Of an Edited file: the text before all edits, the first lines of the
	// instructions that are no more in Source, and what was put into it.
	original []byte
	dropped  []int
	preludes []string
}

// Stage is one FROM and what follows it.
type Stage struct {
	Index int
	// Name is in lower case, as BuildKit keeps it; "" for an unnamed stage.
	Name string
	// Base is the operand of FROM after expansion: a stage, an image or scratch.
	Base string
	// From is the index of the stage that Base names, -1 if it names none or
	// does not matter because the stage is Replaced.
	From int
	// Platform is the --platform of FROM after expansion, "" if not given.
	Platform string
	// Lines reach from FROM to the end of the stage's last instruction; Head
	// is FROM alone.
	Lines, Head Range
	// Needs are the earlier stages that this one is built from, directly: by
	// FROM, COPY --from, RUN --mount=from= and by the ONBUILD triggers of the
	// stage it is based on. Ascending, each once. What the ONBUILD triggers of
	// an image may need is not known here.
	Needs []int
	// Images are the images that this stage uses directly, by FROM and --from:
	// as written, FROM after expansion; sorted, each once. Neither scratch nor
	// what a named build context replaces is among them.
	Images []string
	// Taken are the paths, as written, that other instructions of the file copy
	// from this stage; "/" for one that they mount.
	Taken []string
	// Replaced says that a named build context stands in for the stage: its
	// instructions do not run, so it needs nothing and nothing needs it.
	Replaced bool
	// Shadowed says that a later stage has the same name: --from and --target
	// find that one.
	Shadowed bool
	// Fault says why BuildKit refuses every build that reaches this stage, nil
	// for a sound one. Builds that do not reach it are unharmed, unless it uses
	// a later stage that File.CutBefore or CutAfter has cut off.
	Fault        *SyntaxError
	Instructions []Instruction
}

// Target is how people, tags and File.Lookup name the stage: by its name, or
// by its index in decimal where no name leads to it. BuildKit's --target
// takes names only: build the latter with File.CutAfter.
func (s Stage) Target() string {
	if s.Name == "" || s.Shadowed {
		return strconv.Itoa(s.Index)
	}
	return s.Name
}

// Instruction is one instruction after FROM.
type Instruction struct {
	// Kind is the instruction's keyword in upper case, such as RUN.
	Kind string
	// Lines cover continuation lines and heredoc bodies.
	Lines Range
	// Text is the instruction on one line for people: white space folded,
	// of a heredoc the first line only, at most MaxText characters.
	Text string
	// Run is what a RUN runs, nil for other kinds.
	Run *Run
	// Starts is what a CMD or ENTRYPOINT starts, nil for other kinds; only
	// Script, Shell and Exec are set.
	Starts *Run
	// CacheMounts are those of a RUN, in its order.
	CacheMounts []CacheMount
}

// Run is what a RUN instruction runs. ARGs and ENVs in it are for the shell to
// expand, as BuildKit leaves them to it.
type Run struct {
	// Script is the text that the shell is given, heredocs included; "" in exec
	// form.
	Script string
	// Shell is what SHELL has set for the script, in this stage or one that it
	// is based on; nil for what the base image sets, mostly /bin/sh -c.
	Shell []string
	// Exec is the command of the exec form, nil in shell form.
	Exec []string
	// User is what USER has set, expanded, in this stage or one that it is
	// based on; "" for the base image's own, "?" if the text does not tell.
	User string
	// Mounts are the directories and files at which flags mount something, in
	// the order of the flags, expanded and cleaned: UnknownPlace for one whose
	// place the text does not tell. What is relative is so to the WORKDIR.
	Mounts []string
	// Network is the value of --network, "" if it is not given.
	Network string

	env *setting
}

// Step tells whether the instruction makes a step of the file system, which
// the engine runs and caches; the others change only metadata. BuildKit counts
// the same ones (convert.go, cmdTotal).
func (i Instruction) Step() bool {
	switch i.Kind {
	case "RUN", "COPY", "ADD", "WORKDIR":
		return true
	}
	return false
}

// Range is a range of lines, 1-based, both ends included.
type Range struct{ First, Last int }

// Contains tells whether line lies in r.
func (r Range) Contains(line int) bool { return r.First <= line && line <= r.Last }
