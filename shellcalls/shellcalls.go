// Package shellcalls reads from the text of a RUN instruction which commands
// it calls, with what arguments: also behind sudo, env, sh -c and their like.
// It runs nothing and expands nothing: what only the shell can know stays
// unknown. What a called script calls is not seen.
//
// The grammar is that of mvdan.cc/sh. The text is untrusted, so its size and
// the depth of scripts within scripts are bounded. The package does no I/O.
//
// No API stability is promised: the product is the command.
package shellcalls

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Call is one command that a script calls.
type Call struct {
	// Name is the command without its directory; never empty. A module that
	// Python runs (python3 -m pip) has the module's name.
	Name string
	// Args follow the name.
	Args []Word
	// Env is what the script sets for the call: by export before it, in front
	// of it, or through env and sudo; later ones win.
	Env []Assignment
	// User is whom sudo, su and their like run the call as; "" is the user of
	// the step. One that is not known is "?".
	User string
}

// Word is one argument. Patterns, braces and ~ are left as written.
type Word struct {
	// Text is the argument without its quotes; of one that is not Known, what
	// stands before the first thing that only the shell can expand.
	Text  string
	Known bool
}

// Assignment sets a variable.
type Assignment struct {
	Name  string
	Value Word
}

// UnknownUser is the User of a call whose user only the shell can know.
const UnknownUser = "?"

// MaxScript bounds a script, in bytes: the parser is recursive, and the
// deepest nesting of so many bytes fits its stack.
const MaxScript = 1 << 15

const (
	maxDepth   = 4   // of scripts within scripts, as of sh -c
	maxExports = 100 // variables of one script that are kept
)

// ErrTooLarge says that a script is larger than MaxScript.
var ErrTooLarge = fmt.Errorf("script is larger than %d bytes", MaxScript)

// shells are those whose grammar is read.
var shells = map[string]bool{"sh": true, "bash": true, "dash": true, "ash": true, "ksh": true, "mksh": true, "zsh": true}

// Script gives the calls of a script in the order in which they are written,
// each once, wherever it stands: in a branch not taken too. Shell is the
// command that the script is given to, nil for /bin/sh -c. The calls of a
// script for another kind of shell, or with a #! line of one, are not known:
// none are given. The error is ErrTooLarge or about the script's syntax.
func Script(text string, shell []string) ([]Call, error) {
	if len(shell) > 0 && !shells[commandName(shell[0])] {
		return nil, nil
	}
	r := &reader{}
	if err := r.script(text); err != nil {
		return nil, err
	}
	return r.calls, nil
}

// Exec gives the calls of a command in exec form: the command itself, or what
// it runs.
func Exec(args []string) ([]Call, error) {
	size := 0
	words := make([]Word, 0, len(args))
	for _, arg := range args {
		size += len(arg) + 1
		words = append(words, Word{arg, true})
	}
	if size > MaxScript {
		return nil, ErrTooLarge
	}
	r := &reader{}
	if err := r.call(command{words: words}); err != nil {
		return nil, err
	}
	return r.calls, nil
}

// command is what is called before it is known what that comes to.
type command struct {
	words []Word
	env   []Assignment
	user  string
	stdin string // a heredoc's text, "" for none
}

type reader struct {
	calls   []Call
	exports []Assignment
	user    string // of a script within a script
	depth   int
}

func (r *reader) script(text string) error {
	if len(text) > MaxScript {
		return ErrTooLarge
	}
	if line, found := strings.CutPrefix(text, "#!"); found && !readsShell(line) {
		return nil
	}
	file, err := parse(text)
	if err != nil {
		return err
	}
	return r.walk(file)
}

// readsShell tells whether a #! line, without these characters, names a shell.
func readsShell(line string) bool {
	line, _, _ = strings.Cut(line, "\n")
	for _, field := range strings.Fields(line) {
		name := commandName(field)
		if name == "env" || strings.HasPrefix(field, "-") {
			continue
		}
		return shells[name]
	}
	return false
}

// parse reads bash, which most of sh is a part of, else sh.
func parse(text string) (*syntax.File, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err == nil {
		return file, nil
	}
	file, posixErr := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "")
	if posixErr == nil {
		return file, nil
	}
	if e, ok := errors.AsType[syntax.ParseError](err); ok {
		return nil, fmt.Errorf("parse script: line %d: %s", e.Pos.Line(), e.Text)
	}
	return nil, fmt.Errorf("parse script: %w", err)
}

// walk visits all commands. What a subshell exports ends with it.
func (r *reader) walk(file *syntax.File) error {
	var failed error
	type scope struct {
		node    syntax.Node
		exports int
	}
	var scopes []scope
	syntax.Walk(file, func(node syntax.Node) bool {
		if node == nil {
			top := scopes[len(scopes)-1]
			scopes = scopes[:len(scopes)-1]
			switch top.node.(type) {
			case *syntax.Subshell, *syntax.CmdSubst, *syntax.ProcSubst:
				r.exports = r.exports[:top.exports]
			}
			return true
		}
		if failed != nil {
			return false
		}
		scopes = append(scopes, scope{node, len(r.exports)})
		switch n := node.(type) {
		case *syntax.DeclClause:
			if n.Variant != nil && n.Variant.Value == "export" {
				r.export(assignments(n.Args))
			}
		case *syntax.Stmt:
			if call, ok := n.Cmd.(*syntax.CallExpr); ok {
				failed = r.call(command{words: words(call.Args), env: assignments(call.Assigns), stdin: heredoc(n)})
			}
		}
		return true
	})
	return failed
}

func (r *reader) export(set []Assignment) {
	for _, a := range set {
		if len(r.exports) < maxExports {
			// Calls hold on to the slice they were given.
			r.exports = append(r.exports[:len(r.exports):len(r.exports)], a)
		}
	}
}

// call records a command, or what it runs.
func (r *reader) call(c command) error {
	c = unwrap(c)
	if len(c.words) == 0 || !c.words[0].Known {
		return nil
	}
	name, args := commandName(c.words[0].Text), c.words[1:]
	if name == "" || name == "." || name == "/" {
		return nil
	}
	if c.user == "" {
		c.user = r.user
	}
	env := append(r.exports[:len(r.exports):len(r.exports)], c.env...)
	if module, rest, ok := pythonModule(name, args); ok {
		name, args = module, rest
	}
	if inner, ok := innerScript(name, args, c.stdin); ok && r.depth < maxDepth {
		within := &reader{exports: env[:min(len(env), maxExports)], user: c.user, depth: r.depth + 1}
		if err := within.script(inner); err != nil {
			return err
		}
		r.calls = append(r.calls, within.calls...)
		return nil
	}
	r.calls = append(r.calls, Call{Name: name, Args: args, Env: env, User: c.user})
	return nil
}

// innerScript is the text that a call gives to a shell.
func innerScript(name string, args []Word, stdin string) (string, bool) {
	if name == "eval" {
		var texts []string
		for _, a := range args {
			if !a.Known {
				return "", false
			}
			texts = append(texts, a.Text)
		}
		return strings.Join(texts, " "), true
	}
	if !shells[name] {
		return "", false
	}
	for i, a := range args {
		switch {
		case !a.Known:
			return "", false
		case strings.HasPrefix(a.Text, "--"):
		case strings.HasPrefix(a.Text, "-") && strings.HasSuffix(a.Text, "c"): // -c, -ec, -lc
			for _, script := range args[i+1:] {
				if strings.HasPrefix(script.Text, "-") { // bash -c -e 'text'
					continue
				}
				return script.Text, script.Known
			}
			return "", false
		case a.Text == "-s", strings.HasPrefix(a.Text, "-"), strings.HasPrefix(a.Text, "+"):
		case i > 0 && takesValue(args[i-1].Text): // of bash -o pipefail
		default:
			return "", false // a file
		}
	}
	return stdin, stdin != ""
}

func takesValue(flag string) bool {
	return strings.HasPrefix(flag, "-") && !strings.HasPrefix(flag, "--") && strings.HasSuffix(flag, "o")
}

// pythonModule is the module that python -m runs.
func pythonModule(name string, args []Word) (string, []Word, bool) {
	if version, ok := strings.CutPrefix(name, "python"); !ok || strings.Trim(version, "0123456789.") != "" {
		return "", nil, false
	}
	for i, a := range args {
		switch {
		case !a.Known || !strings.HasPrefix(a.Text, "-"):
			return "", nil, false
		case strings.HasSuffix(a.Text, "m") && !strings.HasPrefix(a.Text, "--"): // -m, -Im
			if i+1 < len(args) && args[i+1].Known && args[i+1].Text != "" {
				return args[i+1].Text, args[i+2:], true
			}
			return "", nil, false
		}
	}
	return "", nil, false
}

func commandName(word string) string { return path.Base(word) }
