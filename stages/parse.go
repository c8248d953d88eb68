package stages

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const (
	// MaxSize bounds a Dockerfile, in bytes. BuildKit itself takes 16 MiB,
	// but reads some texts in quadratic time.
	MaxSize = 1 << 20
	// maxLine is the limit of BuildKit's parser for a line; checked here
	// because the parser reports a longer one as an unterminated heredoc, as
	// an empty file or at the wrong line.
	maxLine = 1<<16 - 1
)

// Options are what of a build's options decides how a Dockerfile is read.
type Options struct {
	// Args are the build arguments (--build-arg) by name.
	Args map[string]string
	// Target is the --target of the build: ARG TARGETSTAGE expands to it.
	Target string
	// Platform is the platform that is built for and BuildPlatform the
	// engine's own, in the form os/arch[/variant]. One that is "" is as the
	// other; both "" are linux/amd64.
	Platform, BuildPlatform string
	// Contexts are the names of named build contexts (--build-context).
	Contexts []string
}

// Parse reads a Dockerfile. Errors are a *SyntaxError, ErrNoStages, ErrTooLarge
// or about an option.
func Parse(source []byte, opt Options) (*File, error) {
	if len(source) > MaxSize {
		return nil, ErrTooLarge
	}
	syntax, _, _, _ := parser.DetectSyntax(source)
	f, err := parse(source, opt)
	if err != nil {
		if e, ok := errors.AsType[*SyntaxError](err); ok {
			e.Syntax = syntax
		}
		return nil, err
	}
	f.Syntax = syntax
	for _, s := range f.Stages {
		if s.Fault != nil {
			s.Fault.Syntax = syntax
		}
	}
	return f, nil
}

func parse(source []byte, opt Options) (*File, error) {
	tree, err := readTree(source)
	if err != nil {
		return nil, err
	}
	args, drafts, err := readInstructions(tree.AST)
	if err != nil {
		return nil, err
	}
	targetStage := opt.Target
	if targetStage == "" {
		targetStage = drafts[len(drafts)-1].Name
	}
	vars, err := newVariables(opt, targetStage, tree.EscapeToken)
	if err != nil {
		return nil, err
	}
	if err := vars.declare(args, opt.Args); err != nil {
		return nil, err
	}
	r := resolver{vars: vars, contexts: newContexts(opt.Contexts), drafts: drafts, named: map[string]int{}, given: opt.Args}
	if err := r.resolve(); err != nil {
		return nil, err
	}
	r.addCacheMounts(opt.Args)
	f := &File{Source: source, end: endingOf(tree), options: opt}
	if bytes.Contains(source, []byte("TARGETSTAGE")) {
		f.TargetStage = vars.values["TARGETSTAGE"]
	}
	for _, d := range drafts {
		f.Stages = append(f.Stages, d.Stage)
	}
	return f, nil
}

// readTree runs BuildKit's line parser.
func readTree(source []byte) (*parser.Result, error) {
	number := 0
	for line := range bytes.Lines(source) {
		number++
		if len(line) > maxLine {
			return nil, &SyntaxError{Line: number, Message: fmt.Sprintf("line is longer than %d bytes", maxLine)}
		}
	}
	if err := checkDirectives(source); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(bytes.NewReader(source))
	if err == nil {
		return tree, nil
	}
	if err.Error() == "file with no instructions" { // no sentinel to compare with
		return nil, ErrNoStages
	}
	line := 1
	if e, ok := errors.AsType[*parser.LocationError](err); ok && len(e.Locations) > 0 && len(e.Locations[0]) > 0 {
		line = max(line, e.Locations[0][0].Start.Line)
	}
	return nil, syntaxError(line, err)
}

// checkDirectives finds errors in parser directives (# escape=, # syntax=,
// # check=), which BuildKit's parser reports at the line before.
func checkDirectives(source []byte) error {
	var p parser.DirectiveParser
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(source, []byte("\uFEFF"))) {
		number++
		d, err := p.ParseLine(bytes.TrimLeftFunc(bytes.TrimRight(line, "\r\n"), unicode.IsSpace))
		switch {
		case err != nil:
			return syntaxError(number, err)
		case d == nil:
			return nil
		case d.Name == "escape" && d.Value != `\` && d.Value != "`":
			return &SyntaxError{Line: number, Message: fmt.Sprintf("invalid escape token %q, valid are \\ and `", d.Value)}
		}
	}
	return nil
}

// draft is a stage whose references are not resolved yet.
type draft struct {
	Stage
	platform string                 // operand of --platform before expansion
	commands []instructions.Command // as parsed, beside Instructions
	scope    scope                  // at the end of the stage
	sources  []source
	onbuild  triggers
}

// readInstructions gives the ARGs before the first FROM and the stages, of
// which there is at least one, with base and platform not expanded yet.
func readInstructions(tree *parser.Node) (args []*instructions.ArgCommand, drafts []*draft, err error) {
	for _, node := range tree.Children {
		if err := checkOnbuild(node); err != nil {
			return nil, nil, err
		}
		parsed, err := instructions.ParseInstruction(node)
		if err != nil {
			return nil, nil, syntaxError(node.StartLine, err)
		}
		if from, ok := parsed.(*instructions.Stage); ok {
			drafts = append(drafts, &draft{
				Stage: Stage{
					Index: len(drafts),
					Name:  from.Name,
					Base:  from.BaseName,
					From:  -1,
					Lines: Range{node.StartLine, node.EndLine},
					Head:  Range{node.StartLine, node.EndLine},
				},
				platform: from.Platform,
			})
			continue
		}
		if arg, ok := parsed.(*instructions.ArgCommand); ok && len(drafts) == 0 {
			args = append(args, arg)
			continue
		}
		if len(drafts) == 0 {
			return nil, nil, &SyntaxError{Line: node.StartLine, Message: fmt.Sprintf("%s before the first FROM", oneLine(strings.ToUpper(node.Value), MaxText))}
		}
		drafts[len(drafts)-1].add(node, parsed.(instructions.Command))
	}
	if len(drafts) == 0 {
		return nil, nil, ErrNoStages
	}
	return args, drafts, nil
}

func (d *draft) add(node *parser.Node, command instructions.Command) {
	i := Instruction{
		Kind:  strings.ToUpper(command.Name()),
		Lines: Range{node.StartLine, node.EndLine},
		Text:  instructionText(node),
	}
	if run, ok := command.(*instructions.RunCommand); ok {
		i.Run = runOf(run)
		i.Run.Network = networkOf(run)
	}
	d.Instructions, d.commands = append(d.Instructions, i), append(d.commands, command)
	d.Lines.Last = i.Lines.Last
	d.sources = append(d.sources, sourcesOf(command, i.Lines.First)...)
	if onbuild, ok := command.(*instructions.OnbuildCommand); ok {
		d.onbuild.expressions = append(d.onbuild.expressions, onbuild.Expression)
	}
}

// checkOnbuild refuses ONBUILD ONBUILD as BuildKit does, but before it
// collects the arguments of a long chain of them in quadratic time.
func checkOnbuild(node *parser.Node) error {
	if strings.EqualFold(node.Value, "ONBUILD") && node.Next != nil && len(node.Next.Children) > 0 &&
		strings.EqualFold(node.Next.Children[0].Value, "ONBUILD") {
		return &SyntaxError{Line: node.StartLine, Message: "ONBUILD ONBUILD is not allowed"}
	}
	return nil
}

func syntaxError(line int, err error) *SyntaxError {
	return &SyntaxError{Line: line, Message: oneLine(err.Error(), 2*MaxText)}
}
