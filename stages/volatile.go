package stages

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// VolatileArg is an ARG whose value is to bust no cache.
type VolatileArg struct {
	Name  string
	Value string
	// Given says that there is a value. Which edits are made does not depend
	// on it.
	Given bool
}

// Volatile is how to build a Dockerfile so that its volatile ARGs, and the
// variables that ENV and ARG make of them, reach the RUN steps that would have
// seen them, as secrets, and nothing else. It is a function of the Dockerfile,
// the names and Options; of the values, Values alone.
type Volatile struct {
	Edits []Edit
	// Values are the secrets that the edits mount, by id. A variable without a
	// value has none.
	Values []VolatileValue
	// Unset are the ENVs that the images will not have, in the order of lines.
	Unset []UnsetEnv
	// Undeclared are the names that are no ARG of the Dockerfile.
	Undeclared []string
}

// VolatileValue is what a secret holds: the value of a variable, or, for
// frontends that do not know env=, a line of shell that exports it.
type VolatileValue struct {
	ID, Text string
	Value    string // of the variable: not to be shown
}

// UnsetEnv is a variable of an ENV that RUN steps see and images do not have.
type UnsetEnv struct {
	Line      int
	Name, Arg string // the variable, and the volatile ARG that it comes from
}

// VolatileError says where a Dockerfile needs the value of a volatile ARG for
// more than a RUN step, and the way out.
type VolatileError struct {
	Line    int
	Message string // one line, names only
	Remedy  string
}

func (e *VolatileError) Error() string {
	return fmt.Sprintf("dockerfile line %d: %s", e.Line, e.Message)
}

// maxVolatile bounds how many volatile variables a step may see.
const maxVolatile = 64

// secretDir is where secrets are mounted as files. It is in memory, so that no
// mount point is left in a layer (BuildKit of Docker 20.10 leaves them
// elsewhere).
const secretDir = "/dev/"

// Volatile finds out how to build the stages, and those alone, with volatile
// ARGs. secretEnv says that the frontend knows env= of secret mounts. An error
// is a *VolatileError.
func (f *File) Volatile(args []VolatileArg, built []int, secretEnv bool) (Volatile, error) {
	if len(args) == 0 {
		return Volatile{}, nil
	}
	tree, err := readTree(f.Source)
	if err != nil {
		return Volatile{}, err
	}
	t := tracer{
		file: f, secretEnv: secretEnv, built: built, lex: shell.NewLex(tree.EscapeToken),
		given: map[string]VolatileArg{}, declared: map[string]bool{}, globals: map[string]variable{}, values: map[string]VolatileValue{},
	}
	for _, arg := range args {
		t.given[arg.Name] = arg
	}
	if err := t.trace(tree.AST); err != nil {
		return Volatile{}, err
	}
	for _, id := range slices.Sorted(maps.Keys(t.values)) {
		t.result.Values = append(t.result.Values, t.values[id])
	}
	for _, arg := range args {
		if !t.declared[arg.Name] {
			t.result.Undeclared = append(t.result.Undeclared, arg.Name)
		}
	}
	return t.result, nil
}

// variable is what is known of a variable of a build.
type variable struct {
	value string
	set   bool
	// known says that value and set are certain: the base image may have set
	// it too.
	known bool
	// id is of the secret that holds it, "" if it is not volatile, and arg the
	// volatile ARG that it comes from.
	id, arg string
	env     bool // an ENV makes it: the container would have it
	line    int  // of that ENV or ARG
}

// secret is the text of the secret that holds v.
func (v variable) secret(name string, secretEnv bool) string {
	if secretEnv {
		return v.value
	}
	return "export " + name + "='" + strings.ReplaceAll(v.value, "'", `'\''`) + "'\n"
}

// tracedStage is what the instructions of a stage see.
type tracedStage struct {
	variables map[string]variable
	shell     string // the program of SHELL, "" for the default
	// runtime are the instructions that the container runs, by kind.
	runtime map[string]*parser.Node
	onbuild []*instructions.OnbuildCommand
}

func (s *tracedStage) clone() *tracedStage {
	// Triggers act once, so that they are not passed on.
	return &tracedStage{variables: maps.Clone(s.variables), shell: s.shell, runtime: maps.Clone(s.runtime)}
}

// volatile are the names of the variables that RUN steps get as secrets.
func (s *tracedStage) volatile() (names []string) {
	for name, v := range s.variables {
		if v.id != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// tracer follows volatile values through a Dockerfile as convert.go does.
type tracer struct {
	file      *File
	secretEnv bool
	built     []int
	lex       *shell.Lex
	given     map[string]VolatileArg
	declared  map[string]bool
	globals   map[string]variable // ARGs before the first FROM
	scopes    []*tracedStage      // of the stages so far
	values    map[string]VolatileValue
	result    Volatile
}

func (t *tracer) trace(tree *parser.Node) error {
	for _, node := range tree.Children {
		command, err := instructions.ParseInstruction(node)
		if err != nil {
			return syntaxError(node.StartLine, err)
		}
		switch c := command.(type) {
		case *instructions.Stage:
			err = t.from(node, c)
		case *instructions.ArgCommand:
			err = t.arg(node, c)
		default:
			err = t.instruction(node, command)
		}
		if err != nil {
			return err
		}
	}
	return t.endStage()
}

func (t *tracer) scope() *tracedStage { return t.scopes[len(t.scopes)-1] }

// active tells whether the stage at hand is built: in others nothing is
// edited, and nothing is wrong.
func (t *tracer) active() bool { return slices.Contains(t.built, len(t.scopes)-1) }

func (t *tracer) from(node *parser.Node, c *instructions.Stage) error {
	if err := t.endStage(); err != nil {
		return err
	}
	base := &tracedStage{variables: map[string]variable{}, runtime: map[string]*parser.Node{}}
	if from := t.file.Stages[len(t.scopes)].From; from >= 0 {
		base = t.scopes[from]
	}
	t.scopes = append(t.scopes, base.clone())
	if !t.active() {
		return nil
	}
	for _, word := range []string{c.BaseName, c.Platform} {
		if arg := t.expand(word, t.globals).arg; arg != "" {
			return &VolatileError{node.StartLine, "FROM uses the volatile ARG " + arg, "a base image is a part of the result: give " + arg + " with --build-arg"}
		}
	}
	for _, trigger := range base.onbuild {
		if err := t.trigger(trigger); err != nil {
			return err
		}
	}
	return nil
}

// trigger checks an ONBUILD instruction, which acts in this stage, and which
// an edit would change for every stage.
func (t *tracer) trigger(onbuild *instructions.OnbuildCommand) error {
	command, err := parseTrigger(onbuild.Expression)
	if err != nil {
		return nil // a Fault of the stage
	}
	arg := t.uses(command)
	switch c := command.(type) {
	case *instructions.ArgCommand:
		for _, pair := range c.Args {
			if _, volatile := t.given[pair.Key]; volatile {
				t.declared[pair.Key], arg = true, pair.Key
			}
		}
	case *instructions.RunCommand:
		for _, name := range t.scope().volatile() {
			arg = t.scope().variables[name].arg
		}
	}
	if arg == "" {
		return nil
	}
	return &VolatileError{onbuild.Location()[0].Start.Line, "ONBUILD needs the volatile ARG " + arg, "write the instruction in the stages that are based on this one"}
}

// arg takes in an ARG. One that is not given has its default, or else the
// value of the ARG of the same name before the first FROM.
func (t *tracer) arg(node *parser.Node, c *instructions.ArgCommand) error {
	global := len(t.scopes) == 0
	variables := t.globals
	if !global {
		variables = t.scope().variables
	}
	kept := &instructions.ArgCommand{}
	for _, pair := range c.Args {
		v, err := t.argVariable(node.StartLine, pair, variables, global)
		if err != nil && (global || t.active()) {
			return err
		}
		if v.id == "" {
			kept.Args = append(kept.Args, pair)
		}
		variables[pair.Key] = v
		t.hold(pair.Key, v)
	}
	if global || len(kept.Args) == len(c.Args) {
		return nil
	}
	var words []string
	for _, pair := range kept.Args {
		word := pair.Key
		if pair.Value != nil {
			word += "=" + *pair.Value
		}
		words = append(words, word)
	}
	t.edit(node, words)
	return nil
}

func (t *tracer) argVariable(line int, pair instructions.KeyValuePairOptional, variables map[string]variable, global bool) (variable, error) {
	given, volatile := t.given[pair.Key]
	if volatile {
		t.declared[pair.Key] = true
	}
	if value, ok := t.file.options.Args[pair.Key]; ok && !volatile {
		return variable{value: value, set: true, known: true}, nil
	}
	if pair.Value == nil {
		if v, inherited := t.globals[pair.Key]; inherited && !global && (v.set || v.id != "") {
			v.line = line
			return v, nil
		}
		if volatile {
			return variable{value: given.Value, set: given.Given, known: true, id: secretID(pair.Key), arg: pair.Key, line: line}, nil
		}
		if v, ok := variables[pair.Key]; ok {
			return v, nil // an ENV
		}
		return variable{known: true}, nil
	}
	e := t.expand(*pair.Value, variables)
	if !volatile && e.arg == "" {
		return variable{value: e.value, set: true, known: e.known}, nil
	}
	v := variable{value: e.value, set: e.ok, known: true, id: secretID(pair.Key, *pair.Value, e.sign), arg: e.arg, line: line}
	if volatile {
		v.arg = pair.Key
		if given.Given {
			v.value, v.set = given.Value, true
		}
	}
	return v, checkDerived(line, "ARG", pair.Key, v.arg, e)
}

// env takes in an ENV. Its values see the variables before it.
func (t *tracer) env(node *parser.Node, c *instructions.EnvCommand) error {
	before, after := t.scope().variables, maps.Clone(t.scope().variables)
	var words []string
	for _, pair := range c.Env {
		key, e := t.expand(pair.Key, before), t.expand(pair.Value, before)
		if e.arg == "" && key.arg == "" {
			words = append(words, pair.Key+"="+pair.Value)
			after[key.value] = variable{value: e.value, set: true, known: e.known, env: true}
			continue
		}
		if key.arg != "" {
			e.arg = key.arg
		}
		v := variable{value: e.value, set: e.ok, known: true, id: secretID(key.value, pair.Value, e.sign), arg: e.arg, env: true, line: node.StartLine}
		after[key.value] = v
		if !t.active() {
			continue
		}
		if err := checkDerived(node.StartLine, "ENV", pair.Key, e.arg, e); err != nil {
			return err
		}
		t.hold(key.value, v)
		t.result.Unset = append(t.result.Unset, UnsetEnv{node.StartLine, key.value, e.arg})
	}
	t.scope().variables = after
	if len(words) < len(c.Env) {
		t.edit(node, words)
	}
	return nil
}

// variableName is what a shell can export.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// checkDerived tells whether a variable that comes from a volatile ARG can be
// made here instead of by the engine.
func checkDerived(line int, kind, name, arg string, e expansion) error {
	name = oneLine(name, MaxText)
	switch {
	case !variableName.MatchString(name):
		return &VolatileError{line, fmt.Sprintf("%s %s comes from the volatile ARG %s, and no RUN step can be given a variable of that name", kind, name, arg),
			"use letters, digits and underscores"}
	case !e.known:
		return &VolatileError{line, fmt.Sprintf("%s %s joins the volatile ARG %s with a variable that only the base image knows", kind, name, arg),
			"write that value out, or set " + name + " in the RUN steps that need it"}
	}
	return nil
}

// hold notes what the secret of a variable holds.
func (t *tracer) hold(name string, v variable) {
	if v.id != "" && v.set {
		t.values[v.id] = VolatileValue{v.id, v.secret(name, t.secretEnv), v.value}
	}
}

// edit leaves nothing of an ARG or ENV but some of its words.
func (t *tracer) edit(node *parser.Node, words []string) {
	if !t.active() {
		return
	}
	e := Edit{Line: node.StartLine, Drop: len(words) == 0}
	if !e.Drop {
		e.Replace = node.Value + " " + strings.Join(words, " ")
	}
	t.result.Edits = append(t.result.Edits, e)
}

// instruction takes in all but FROM and ARG.
func (t *tracer) instruction(node *parser.Node, command any) error {
	kind := strings.ToUpper(node.Value)
	switch c := command.(type) {
	case *instructions.EnvCommand:
		return t.env(node, c)
	case *instructions.ShellCommand:
		if len(c.Shell) > 0 {
			t.scope().shell = path.Base(c.Shell[0])
		}
	case *instructions.OnbuildCommand:
		t.scope().onbuild = append(t.scope().onbuild, c)
	case *instructions.CmdCommand, *instructions.EntrypointCommand, *instructions.HealthCheckCommand:
		t.scope().runtime[kind] = node
	}
	if !t.active() {
		return nil
	}
	if arg := t.uses(command); arg != "" {
		return &VolatileError{node.StartLine, kind + " uses the volatile ARG " + arg,
			"its outcome depends on the value: give " + arg + " with --build-arg, or do this in a RUN step"}
	}
	if _, ok := command.(*instructions.RunCommand); ok {
		return t.run(node)
	}
	return nil
}

// posixShells are those that read a file with a dot.
var posixShells = []string{"", "sh", "ash", "bash", "busybox", "dash", "ksh", "mksh", "zsh"}

// run gives a RUN the variables that it would have seen.
func (t *tracer) run(node *parser.Node) error {
	names := t.scope().volatile()
	if len(names) == 0 {
		return nil
	}
	arg := t.scope().variables[names[0]].arg
	if len(names) > maxVolatile {
		return &VolatileError{node.StartLine, fmt.Sprintf("more than %d variables come from volatile ARGs", maxVolatile), "give some with --build-arg"}
	}
	e := Edit{Line: node.StartLine}
	for _, name := range names {
		v := t.scope().variables[name]
		if t.secretEnv {
			e.Mounts = append(e.Mounts, "type=secret,id="+v.id+",env="+name)
			continue
		}
		file := secretDir + v.id
		e.Mounts = append(e.Mounts, "type=secret,id="+v.id+",target="+file+",mode=0444")
		e.Prelude = strings.TrimSpace(e.Prelude + " test ! -f " + file + " || . " + file + ";")
	}
	if e.Prelude != "" {
		const remedy = "; write it in shell form, or build with BuildKit 0.16 or newer, as in Docker 28"
		switch {
		case node.Attributes["json"], isScript(node):
			return &VolatileError{node.StartLine, "this engine can give the volatile ARG " + arg + " only to commands of a shell", "RUN in exec form, or of a script with #!, has none" + remedy}
		case !slices.Contains(posixShells, t.scope().shell):
			return &VolatileError{node.StartLine, "this engine cannot give the volatile ARG " + arg + " to the shell " + oneLine(t.scope().shell, MaxText), "it is no POSIX shell" + remedy}
		}
	}
	t.result.Edits = append(t.result.Edits, e)
	return nil
}

// endStage refuses variables that the container visibly needs.
func (t *tracer) endStage() error {
	if len(t.scopes) == 0 || !t.active() {
		return nil
	}
	for _, name := range t.scope().volatile() {
		v := t.scope().variables[name]
		if !v.env {
			continue
		}
		// The text is for the container's shell, not of the Dockerfile's grammar.
		mentioned := regexp.MustCompile(`\$\{?` + regexp.QuoteMeta(name) + `\b`)
		for _, kind := range []string{"CMD", "ENTRYPOINT", "HEALTHCHECK"} {
			if node := t.scope().runtime[kind]; node != nil && mentioned.MatchString(node.Original) {
				return &VolatileError{v.line, fmt.Sprintf("ENV %s comes from the volatile ARG %s, and %s in line %d uses it when the container runs", name, v.arg, kind, node.StartLine),
					"no image holds a volatile value: give it to the container (docker run -e " + name + "), or write another variable for " + kind}
			}
		}
	}
	return nil
}

// uses names a volatile ARG that BuildKit would put into the words of an
// instruction, "" if it puts none.
func (t *tracer) uses(command any) (arg string) {
	variables := t.scope().variables
	look := func(word string) (string, error) {
		if e := t.expand(word, variables); e.arg != "" {
			arg = e.arg
		}
		return word, nil
	}
	// What is wrong with the words is the engine's to say.
	if c, ok := command.(instructions.SupportsSingleWordExpansion); ok {
		c.Expand(look)
	}
	if c, ok := command.(instructions.SupportsSingleWordExpansionRaw); ok {
		c.ExpandRaw(look)
	}
	if c, ok := command.(*instructions.ExposeCommand); ok {
		for _, port := range c.Ports {
			look(port)
		}
	}
	return arg
}

// expansion is a word with its variables replaced.
type expansion struct {
	value string
	ok    bool // the values allow it
	// sign is the word with the ids of secrets in the places of their values.
	sign string
	// arg is the volatile ARG that the word uses, "" for none, and known says
	// that it uses nothing that the base image may have set.
	arg   string
	known bool
}

func (t *tracer) expand(word string, variables map[string]variable) expansion {
	e := expansion{value: word, ok: true, sign: word, known: true}
	if !strings.ContainsAny(word, "$\"'\\`") || !utf8.ValidString(word) || strings.ContainsRune(word, 0) {
		return e
	}
	values := &bounded{used: len(word), get: func(name string) (string, bool) {
		v, ok := variables[name]
		e.known = e.known && ok && v.known
		if v.arg != "" {
			e.arg = v.arg
		}
		return v.value, v.set
	}}
	signs := &bounded{used: len(word), get: func(name string) (string, bool) {
		v := variables[name]
		if v.id != "" {
			return "${" + v.id + "}", true
		}
		return v.value, v.set
	}}
	var err error
	if e.sign, _, err = t.lex.ProcessWord(word, signs); err != nil || signs.exceeded() {
		e.known = false
	}
	if e.value, _, err = t.lex.ProcessWord(word, values); err != nil || values.exceeded() {
		e.value, e.ok = "", false
	}
	return e
}

// secretID names the secret of a variable. What makes its value is part of the
// name, and by that of cache keys: only the volatile values themselves are not.
func secretID(name string, made ...string) string {
	id := ReservedPrefix + name
	if len(made) == 0 {
		return id
	}
	sum := sha256.New()
	for _, part := range made {
		fmt.Fprintf(sum, "%d:%s,", len(part), part)
	}
	return id + "." + hex.EncodeToString(sum.Sum(nil))[:8]
}
