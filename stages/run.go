package stages

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// UnknownUser is the Run.User of a step whose user the text does not tell.
const UnknownUser = "?"

// UnknownPlace is the place in Run.Mounts of a mount whose place the text does
// not tell.
const UnknownPlace = "?"

// Getenv gives the value that ENV or ARG has set for the step, in this stage
// or one that it is based on. Set says that they have set one at all, known
// that the text tells its value: what a base image sets is not known here.
func (r *Run) Getenv(name string) (value string, set, known bool) {
	if s := r.env.find(name); s != nil {
		return s.value, true, s.known
	}
	return "", false, false
}

// runOf gives what a RUN runs, as convert.go's dispatchRun hands it on.
func runOf(c *instructions.RunCommand) *Run {
	if !c.PrependShell {
		return &Run{Exec: c.CmdLine}
	}
	r := &Run{Script: strings.Join(c.CmdLine, " ")}
	if len(c.Files) == 0 || len(c.CmdLine) != 1 {
		return r
	}
	if heredoc, err := parser.ParseHeredoc(c.CmdLine[0]); err == nil && heredoc != nil {
		r.Script = c.Files[0].Data
		if c.Files[0].Chomp {
			r.Script = parser.ChompHeredocContent(r.Script)
		}
		return r
	}
	var script strings.Builder
	script.WriteString(c.CmdLine[0])
	for _, file := range c.Files {
		script.WriteString("\n" + file.Data + file.Name)
	}
	r.Script = script.String()
	return r
}

// scope is what instructions settle for those that follow them.
type scope struct {
	shell []string
	user  string
	env   *setting
}

// settle tells every RUN of a stage what is in force there. The stage it is
// based on has had its turn.
func (r *resolver) settle(d *draft) {
	s := scope{}
	if d.From >= 0 {
		s = r.drafts[d.From].scope
	}
	for i, command := range d.commands {
		switch c := command.(type) {
		case *instructions.ShellCommand:
			s.shell = c.Shell
		case *instructions.UserCommand:
			var known bool
			if s.user, known = s.expand(r, c.User); !known {
				s.user = UnknownUser
			}
		case *instructions.EnvCommand:
			before := s // all pairs of one ENV see what was before it
			for _, pair := range c.Env {
				key, known := before.expand(r, pair.Key)
				if !known {
					continue
				}
				value, known := before.expand(r, pair.Value)
				s.env = s.env.with(key, value, known, false)
			}
		case *instructions.ArgCommand:
			for _, arg := range c.Args {
				s.declare(r, arg)
			}
		case *instructions.RunCommand:
			run := d.Instructions[i].Run
			run.User, run.env = s.user, s.env
			if run.Exec == nil {
				run.Shell = s.shell
			}
			run.Mounts = s.mounts(r, c)
		case *instructions.CmdCommand:
			d.Instructions[i].Starts = s.starts(c.ShellDependantCmdLine)
		case *instructions.EntrypointCommand:
			d.Instructions[i].Starts = s.starts(c.ShellDependantCmdLine)
		}
	}
	d.scope = s
}

func (s *scope) starts(c instructions.ShellDependantCmdLine) *Run {
	if !c.PrependShell {
		return &Run{Exec: c.CmdLine}
	}
	return &Run{Script: strings.Join(c.CmdLine, " "), Shell: s.shell}
}

// declare is an ARG after FROM: what is given, else its default, else what an
// ARG before the first FROM has. An ENV of that name stays.
func (s *scope) declare(r *resolver, arg instructions.KeyValuePairOptional) {
	if set := s.env.find(arg.Key); set != nil && !set.arg {
		return
	}
	value, known := r.given[arg.Key]
	switch {
	case known:
	case arg.Value != nil:
		value, known = s.expand(r, *arg.Value)
	default:
		if value, known = r.vars.values[arg.Key]; !known {
			return
		}
	}
	s.env = s.env.with(arg.Key, value, known, true)
}

// expand is not known if the word uses what this file does not set.
func (s *scope) expand(r *resolver, word string) (string, bool) {
	if !strings.ContainsAny(word, `$'"\`+"`") {
		return word, true
	}
	if len(word) > maxWord || !utf8.ValidString(word) || strings.ContainsRune(word, 0) {
		return "", false
	}
	known := true
	env := &bounded{get: func(name string) (string, bool) {
		set := s.env.find(name)
		if set == nil || !set.known {
			known = false
			return "", false
		}
		return set.value, true
	}}
	expanded, _, err := r.vars.lex.ProcessWord(word, env)
	if err != nil || !known || env.exceeded() {
		return "", false
	}
	return expanded, true
}

// mounts are the places of a RUN's mounts. BuildKit's parser reads a mount to
// its end only when it expands it.
func (s *scope) mounts(r *resolver, c *instructions.RunCommand) []string {
	err := c.Expand(func(word string) (string, error) {
		if expanded, known := s.expand(r, word); known {
			return expanded, nil
		}
		return word, nil
	})
	if err != nil { // such as mode=$MODE
		return []string{UnknownPlace}
	}
	var places []string
	for _, m := range instructions.GetMounts(c) {
		switch {
		case m.Target == "":
		case strings.Contains(m.Target, "$"):
			places = append(places, UnknownPlace)
		default:
			places = append(places, path.Clean(m.Target))
		}
	}
	return places
}

// setting is a variable that ENV or ARG has set, and those set before it: a
// list that all steps share, each from its own place on.
type setting struct {
	name, value string
	known, arg  bool
	before      *setting
	count       int
}

// maxSettings bounds how many are kept, since each is looked for one by one.
const maxSettings = 1000

// anyName stands for all names: there were too many to keep.
const anyName = ""

func (s *setting) with(name, value string, known, arg bool) *setting {
	count := 1
	if s != nil {
		count += s.count
	}
	if count > maxSettings {
		name = anyName
	}
	if count > maxSettings+1 {
		return s
	}
	return &setting{name: name, value: value, known: known, arg: arg, before: s, count: count}
}

func (s *setting) find(name string) *setting {
	for ; s != nil; s = s.before {
		switch s.name {
		case name:
			return s
		case anyName:
			return &setting{name: name}
		}
	}
	return nil
}

// networkOf gives the --network of a RUN. BuildKit's parser makes the default
// of a flag that is not given, so the flag itself is looked for.
func networkOf(c *instructions.RunCommand) string {
	if slices.Contains(c.FlagsUsed, "network") {
		return instructions.GetNetwork(c)
	}
	return ""
}
