package stages

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const (
	// scratch is the empty base, unless a stage has that name.
	scratch = "scratch"
	// maxTriggered bounds how often ONBUILD triggers are followed: triggers
	// times stages based on them grows with the square of the text.
	maxTriggered = 1 << 20
)

// source is what a --from names: a stage or an image.
type source struct {
	from string
	copy bool // of COPY, where a number is the index of a stage; else of a mount
	line int
	// paths are what is taken of it; of a mount all, as its flag is not
	// expanded yet.
	paths []string
}

// sourcesOf gives the --from of COPY and of the mounts of RUN.
func sourcesOf(command instructions.Command, line int) []source {
	var sources []source
	switch c := command.(type) {
	case *instructions.CopyCommand:
		if c.From != "" {
			sources = append(sources, source{from: c.From, copy: true, line: line, paths: c.SourcePaths})
		}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			if m.From != "" {
				sources = append(sources, source{from: m.From, line: line, paths: []string{"/"}})
			}
		}
	}
	return sources
}

// resolver finds what the names in a Dockerfile refer to, as convert.go does.
type resolver struct {
	drafts    []*draft
	vars      *variables
	given     map[string]string // build arguments
	contexts  contexts
	named     map[string]int // name -> the last stage so far that has it
	triggered int
}

func (r *resolver) resolve() error {
	// FROM sees only the stages before it ...
	for _, d := range r.drafts {
		if err := r.resolveBase(d); err != nil {
			return err
		}
	}
	// ... but --from sees all, and of those with one name the last, even where
	// only an earlier one could be copied from.
	uses := make([][]int, len(r.drafts))
	for i, d := range r.drafts {
		var err error
		if uses[i], err = r.resolveSources(d, d.sources); err != nil {
			return err
		}
	}
	if i := findCycle(uses); i >= 0 {
		d := r.drafts[i]
		return &SyntaxError{Line: d.Lines.First, Message: fmt.Sprintf("stage %s needs itself", d.Target())}
	}
	for i, d := range r.drafts {
		r.finish(d, uses[i])
		r.settle(d)
	}
	return nil
}

// resolveBase expands the operands of FROM and registers the stage.
func (r *resolver) resolveBase(d *draft) error {
	line, operand := d.Lines.First, d.Base
	var err error
	if d.Base, err = r.vars.expand(operand); err != nil {
		return syntaxError(line, err)
	}
	if d.Base == "" {
		return syntaxError(line, fmt.Errorf("base %s is blank after expansion", operand))
	}
	if d.platform != "" {
		if d.Platform, err = r.vars.expand(d.platform); err != nil {
			return syntaxError(line, err)
		}
		if d.Platform == "" {
			return syntaxError(line, fmt.Errorf("platform %s is blank after expansion", d.platform))
		}
		if _, err = platforms.Parse(d.Platform); err != nil {
			return syntaxError(line, fmt.Errorf("parse platform %q: %w", d.Platform, err))
		}
	}
	if i, ok := r.named[d.Base]; ok { // unlike --from, FROM minds the case
		d.From = i
	} else if err := r.addImage(d, d.Base, line); err != nil {
		return err
	}
	if d.Name == "" {
		return nil
	}
	if i, ok := r.named[d.Name]; ok {
		r.drafts[i].Shadowed = true
	}
	r.named[d.Name] = d.Index
	d.Replaced = r.contexts.has(d.Name)
	return nil
}

// resolveSources gives the stages among sources and adds the images to d.
func (r *resolver) resolveSources(d *draft, sources []source) ([]int, error) {
	var found []int
	for _, s := range sources {
		i, isStage, err := r.findStage(s)
		if err != nil {
			return nil, err
		}
		if isStage {
			found = append(found, i)
			r.drafts[i].Taken = append(r.drafts[i].Taken, s.paths...)
		} else if err := r.addImage(d, s.from, s.line); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// findStage is convert.go's toCommand and detectRunMount, but for one accident
// of theirs: an index past the last stage may hit an image that another --from
// names.
func (r *resolver) findStage(s source) (index int, isStage bool, err error) {
	if s.copy {
		none := variables{lex: r.vars.lex}
		if expanded, err := none.expand(s.from); err != nil {
			return 0, false, syntaxError(s.line, err)
		} else if expanded != s.from {
			return 0, false, &SyntaxError{Line: s.line, Message: "--from does not expand variables, define a stage with FROM and an ARG before the first FROM instead"}
		}
		if i, err := strconv.Atoi(s.from); err == nil {
			if i < 0 || i >= len(r.drafts) {
				return 0, false, &SyntaxError{Line: s.line, Message: fmt.Sprintf("no stage has index %d", i)}
			}
			return i, true, nil
		}
	}
	i, ok := r.named[strings.ToLower(s.from)]
	return i, ok, nil
}

func (r *resolver) addImage(d *draft, name string, line int) error {
	if name == scratch {
		return nil
	}
	if _, err := reference.ParseNormalizedNamed(name); err != nil {
		return syntaxError(line, fmt.Errorf("parse image name %q: %w", name, err))
	}
	if !r.contexts.has(name) {
		d.Images = append(d.Images, name)
	}
	return nil
}

// finish turns what the stage uses into what it needs. From here on an error
// harms only the builds that reach the stage.
func (r *resolver) finish(d *draft, uses []int) {
	if d.Replaced {
		d.From, d.Images = -1, nil
		return
	}
	if d.From >= 0 {
		triggered, err := r.trigger(d, r.drafts[d.From])
		if err != nil {
			d.Fault = syntaxError(d.Lines.First, fmt.Errorf("ONBUILD trigger of stage %s: %w", r.drafts[d.From].Target(), err))
		}
		uses = append(append(uses, d.From), triggered...)
	}
	for _, i := range uses {
		switch {
		case r.drafts[i].Replaced:
		case i == d.Index: // by a trigger only, else it were a cycle: BuildKit copies from the stage as it stands
		case i > d.Index:
			d.Fault = &SyntaxError{Line: d.Lines.First, Message: fmt.Sprintf("stage %s uses stage %s, which is defined later", d.Target(), r.drafts[i].Target())}
		default:
			d.Needs = append(d.Needs, i)
		}
	}
	slices.Sort(d.Needs)
	d.Needs = slices.Compact(d.Needs)
	slices.Sort(d.Images)
	d.Images = slices.Compact(d.Images)
}

// trigger gives the stages that d uses by base's ONBUILD instructions.
func (r *resolver) trigger(d, base *draft) ([]int, error) {
	sources, err := base.onbuild.sources()
	if err != nil {
		return nil, err
	}
	if r.triggered += len(sources); r.triggered > maxTriggered {
		return nil, fmt.Errorf("more than %d in one file", maxTriggered)
	}
	return r.resolveSources(d, sources)
}

// triggers are what the ONBUILD instructions of a stage leave to the stages
// based on it, parsed only if there is one (convert.go, initOnBuildTriggers).
type triggers struct {
	expressions []string
	parsed      bool
	found       []source
	err         error
}

func (t *triggers) sources() ([]source, error) {
	if !t.parsed {
		t.parsed = true
		t.found, t.err = t.parse()
	}
	return t.found, t.err
}

func (t *triggers) parse() ([]source, error) {
	var sources []source
	for _, expression := range t.expressions {
		command, err := parseTrigger(expression)
		if err != nil {
			return nil, err
		}
		sources = append(sources, sourcesOf(command, 0)...)
	}
	return sources, nil
}

// parseTrigger reads the instruction behind ONBUILD, heredocs included.
func parseTrigger(expression string) (instructions.Command, error) {
	tree, err := parser.Parse(strings.NewReader(expression))
	if err != nil {
		return nil, err
	}
	if len(tree.AST.Children) != 1 {
		return nil, fmt.Errorf("%q is not one instruction", expression)
	}
	return instructions.ParseCommand(tree.AST.Children[0])
}

// findCycle gives a stage that uses itself, directly or through others, or -1.
// Only --from can lead to a later stage, so FROM is left out, as convert.go's
// validateCircularDependency does.
func findCycle(uses [][]int) int {
	const (
		unseen = iota
		open
		done
	)
	state := make([]int, len(uses))
	var visit func(i int) int
	visit = func(i int) int {
		state[i] = open
		for _, next := range uses[i] {
			if state[next] == open {
				return next
			}
			if state[next] == unseen {
				if found := visit(next); found >= 0 {
					return found
				}
			}
		}
		state[i] = done
		return -1
	}
	for i := range uses {
		if state[i] == unseen {
			if found := visit(i); found >= 0 {
				return found
			}
		}
	}
	return -1
}

// contexts are the names of named build contexts in the form in which
// BuildKit's frontend asks for them (dockerui/config.go, NamedContext).
type contexts map[string]bool

func newContexts(names []string) contexts {
	c := contexts{}
	for _, name := range names {
		c[contextKey(name)] = true
	}
	return c
}

func (c contexts) has(name string) bool {
	if len(c) == 0 || strings.EqualFold(name, scratch) || strings.EqualFold(name, "context") {
		return false
	}
	return c[contextKey(name)]
}

func contextKey(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}
