package stages

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// ReservedPrefix begins the ids of all secrets and cache mounts that edits
// bring into a Dockerfile: by it they are told from those that people wrote.
const ReservedPrefix = "docker-build-remote-cache."

// maxPreludeTries bounds at how many words of an instruction its command is
// looked for; before the command stand only flags.
const maxPreludeTries = 256

// Edit changes one instruction without moving a line.
type Edit struct {
	// Line is the first line of the instruction.
	Line int
	// Mounts are values of --mount flags that are put in front of a RUN's own
	// flags, in this order, such as "type=secret,id=x,env=X".
	Mounts []string
	// Prelude is shell text on one line that is put before the command of a
	// RUN in shell form, heredocs included: whole commands, each with its
	// semicolon. So that it can be left out of what people are shown, it has
	// neither quotes nor variables; it may read a file that has.
	Prelude string
	// Drop makes comments of an instruction that is no step, such as ARG.
	Drop bool
	// Replace is another text of the same kind of instruction, on at most as
	// many lines.
	Replace string
}

// EditError says that an instruction is written in a way that cannot be edited.
type EditError struct {
	Line   int
	Reason string
	// ExecForm and Script say that a prelude was wanted for a RUN that no
	// shell interprets: one in JSON, or a heredoc that begins with #!.
	ExecForm, Script bool
}

func (e *EditError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// Edited gives the file with the edits made: the same stages and the same
// steps, every line at its number. With no edits it is the same file. Source
// is the edited text, so that whatever is cut from it or added to it is edited
// too, while stages and instructions stay as people wrote them, but for cache
// mounts that an edit adds. Edits of one instruction add up. An error is an
// *EditError, or that of Parse.
func (f *File) Edited(edits []Edit) (*File, error) {
	joined, err := joinEdits(edits)
	if err != nil || len(joined) == 0 {
		return f, err
	}
	lines := slices.Collect(bytes.Lines(f.Source))
	edited := *f
	edited.original, edited.dropped, edited.preludes = f.Original(), slices.Clone(f.dropped), slices.Clone(f.preludes)
	for _, e := range joined {
		in, ok := f.instructionFrom(e.Line)
		if !ok || slices.Contains(f.dropped, e.Line) {
			return nil, &EditError{Line: e.Line, Reason: "no instruction begins here"}
		}
		text, err := e.apply(in, bytes.Join(lines[in.Lines.First-1:in.Lines.Last], nil), f.end.escape)
		if err != nil {
			return nil, err
		}
		replaced := slices.Collect(bytes.Lines(text))
		if len(replaced) != in.Lines.Last-in.Lines.First+1 {
			return nil, &EditError{Line: e.Line, Reason: "the edit would move lines"}
		}
		copy(lines[in.Lines.First-1:], replaced)
		if e.Drop {
			edited.dropped = append(edited.dropped, e.Line)
		}
		if e.Prelude != "" && !slices.Contains(edited.preludes, e.Prelude) {
			edited.preludes = append(edited.preludes, e.Prelude)
		}
	}
	edited.Source = bytes.Join(lines, nil)
	after, err := Parse(edited.Source, f.options)
	if err != nil {
		return nil, fmt.Errorf("edit Dockerfile: %w", err)
	}
	edited.end = after.end
	if err := edited.compare(after); err != nil {
		return nil, err
	}
	edited.adoptCacheMounts(after)
	return &edited, nil
}

// adoptCacheMounts takes over the cache mounts of the edited text, which are
// kept as those that people wrote are.
func (f *File) adoptCacheMounts(after *File) {
	f.Stages = slices.Clone(f.Stages)
	for i := range f.Stages {
		mounts := map[int][]CacheMount{}
		for _, in := range after.Stages[i].Instructions {
			mounts[in.Lines.First] = in.CacheMounts
		}
		instructions := slices.Clone(f.Stages[i].Instructions)
		for j := range instructions {
			instructions[j].CacheMounts = mounts[instructions[j].Lines.First]
		}
		f.Stages[i].Instructions = instructions
	}
}

// Original is the text that people wrote: Source before all edits.
func (f *File) Original() []byte {
	if f.original == nil {
		return f.Source
	}
	return f.original
}

// Preludes are the texts that edits have put before commands, each once.
func (f *File) Preludes() []string { return slices.Clone(f.preludes) }

func (f *File) instructionFrom(line int) (Instruction, bool) {
	stage, index, ok := f.Find(line)
	if !ok || index < 0 || f.Stages[stage].Instructions[index].Lines.First != line {
		return Instruction{}, false
	}
	return f.Stages[stage].Instructions[index], true
}

// compare is an error unless the edited text has the stages and instructions
// that f has.
func (f *File) compare(after *File) error {
	if len(after.Stages) != len(f.Stages) {
		return errors.New("edit Dockerfile: it has other stages then")
	}
	for i, want := range f.Stages {
		got := after.Stages[i]
		var kept []Instruction
		for _, in := range want.Instructions {
			if !slices.Contains(f.dropped, in.Lines.First) {
				kept = append(kept, in)
			}
		}
		same := slices.EqualFunc(kept, got.Instructions, func(a, b Instruction) bool {
			return a.Kind == b.Kind && a.Lines.First == b.Lines.First
		})
		if !same || (want.Fault == nil) != (got.Fault == nil) {
			return fmt.Errorf("edit Dockerfile: stage %s has other instructions then", want.Target())
		}
		for _, s := range []*Stage{&want, &got} {
			s.Instructions, s.Lines, s.Fault = nil, Range{}, nil
		}
		if !reflect.DeepEqual(want, got) {
			return fmt.Errorf("edit Dockerfile: stage %s is another then", want.Target())
		}
	}
	return nil
}

// joinEdits makes one edit of those of one instruction, in the order of lines.
func joinEdits(edits []Edit) ([]Edit, error) {
	var joined []Edit
	for _, e := range edits {
		i := slices.IndexFunc(joined, func(other Edit) bool { return other.Line == e.Line })
		if i < 0 {
			e.Mounts = slices.Clone(e.Mounts)
			joined = append(joined, e)
			continue
		}
		j := &joined[i]
		if j.Replace != "" && e.Replace != "" && j.Replace != e.Replace {
			return nil, &EditError{Line: e.Line, Reason: "two edits replace it"}
		}
		j.Mounts = append(j.Mounts, e.Mounts...)
		j.Prelude = strings.TrimSpace(j.Prelude + " " + e.Prelude)
		j.Drop = j.Drop || e.Drop
		j.Replace = cmp.Or(j.Replace, e.Replace)
	}
	joined = slices.DeleteFunc(joined, func(e Edit) bool {
		return len(e.Mounts) == 0 && e.Prelude == "" && !e.Drop && e.Replace == ""
	})
	slices.SortStableFunc(joined, func(a, b Edit) int { return a.Line - b.Line })
	return joined, nil
}

// apply gives the text of one instruction after the edit.
func (e Edit) apply(in Instruction, text []byte, escape rune) ([]byte, error) {
	before, err := parseAlone(text, escape)
	if err != nil {
		return nil, &EditError{Line: e.Line, Reason: err.Error()}
	}
	run := len(e.Mounts) > 0 || e.Prelude != ""
	switch {
	case run && in.Kind != "RUN":
		return nil, &EditError{Line: e.Line, Reason: in.Kind + " takes no mounts and no commands"}
	case run && (e.Drop || e.Replace != ""), e.Drop && e.Replace != "":
		return nil, &EditError{Line: e.Line, Reason: "edits that exclude each other"}
	case e.Drop && (in.Step() || in.Kind == "ONBUILD"):
		return nil, &EditError{Line: e.Line, Reason: in.Kind + " cannot be left out"}
	case e.Drop:
		return blank(text), nil
	case e.Replace != "":
		return e.replace(in, text, escape)
	}
	if e.Prelude != "" {
		if text, err = e.insertPrelude(before, text, escape); err != nil {
			return nil, err
		}
	}
	if len(e.Mounts) > 0 {
		return e.insertMounts(text, escape)
	}
	return text, nil
}

// blank makes a comment of the first line, lest a comment above describes
// something else now, and empties the others.
func blank(text []byte) []byte {
	var lines []byte
	for line := range bytes.Lines(text) {
		if len(lines) == 0 {
			lines = append(lines, '#')
		}
		lines = append(lines, lineEnd(line)...)
	}
	return lines
}

func lineEnd(line []byte) []byte { return line[len(bytes.TrimRight(line, "\r\n")):] }

func (e Edit) replace(in Instruction, text []byte, escape rune) ([]byte, error) {
	wanted := strings.Split(strings.TrimRight(e.Replace, "\n"), "\n")
	var lines []byte
	for line := range bytes.Lines(text) {
		if len(wanted) > 0 {
			lines = append(lines, wanted[0]...)
			wanted = wanted[1:]
		}
		lines = append(lines, lineEnd(line)...)
	}
	node, err := parseAlone(lines, escape)
	if err != nil || len(wanted) > 0 || !strings.EqualFold(node.Value, in.Kind) {
		return nil, &EditError{Line: e.Line, Reason: "it cannot be replaced by " + oneLine(e.Replace, MaxText)}
	}
	return lines, nil
}

// insertMounts puts the flags behind the keyword.
func (e Edit) insertMounts(text []byte, escape rune) ([]byte, error) {
	before, err := parseAlone(text, escape)
	if err != nil {
		return nil, &EditError{Line: e.Line, Reason: err.Error()}
	}
	var flags string
	want := contentOf(before)
	for i, mount := range e.Mounts {
		// The flag must mean the same wherever it stands, and stay one word in
		// the name that the engine gives to the step.
		if mount == "" || strings.ContainsFunc(mount, func(r rune) bool {
			return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune("\"'`\\<", r)
		}) {
			return nil, &EditError{Line: e.Line, Reason: fmt.Sprintf("%q cannot be written as a mount", mount)}
		}
		flags += " --mount=" + mount
		want.flags = slices.Insert(want.flags, i, "--mount="+mount)
	}
	start := len(text) - len(bytes.TrimLeftFunc(text, unicode.IsSpace))
	end := min(start+len(before.Value), len(text))
	edited := slices.Concat(text[:end], []byte(flags), text[end:])
	node, err := parseAlone(edited, escape)
	if err != nil || !reflect.DeepEqual(contentOf(node), want) {
		return nil, &EditError{Line: e.Line, Reason: "no flag can be added to an instruction that is written so"}
	}
	return edited, nil
}

// insertPrelude puts the text before the command. Where that begins is found
// by trying each word of the instruction: the parser tells which one is right.
func (e Edit) insertPrelude(before *parser.Node, text []byte, escape rune) ([]byte, error) {
	prelude := strings.TrimSpace(e.Prelude)
	if strings.ContainsFunc(prelude, unicode.IsControl) || strings.ContainsAny(prelude, "#$\"'`\\<") || !strings.HasSuffix(prelude, ";") {
		return nil, &EditError{Line: e.Line, Reason: fmt.Sprintf("%q cannot be put before a command", prelude)}
	}
	want := contentOf(before)
	if want.json {
		return nil, &EditError{Line: e.Line, Reason: "RUN in exec form has no shell", ExecForm: true}
	}
	if len(want.words) != 1 {
		return nil, &EditError{Line: e.Line, Reason: "RUN without a command"}
	}
	alone := isHeredoc(before)
	switch {
	case !alone:
		want.words[0] = prelude + " " + want.words[0]
	case isScript(before):
		return nil, &EditError{Line: e.Line, Reason: "RUN with a script of its own interpreter has no shell", Script: true}
	case want.heredocs[0].Content == "":
		return text, nil
	default:
		want.heredocs[0].Content = prelude + " " + want.heredocs[0].Content
	}
	tries := 0
	for _, at := range wordStarts(text, bodyStart(before, text), alone) {
		if tries++; tries > maxPreludeTries {
			break
		}
		edited := slices.Concat(text[:at], []byte(prelude+" "), text[at:])
		if node, err := parseAlone(edited, escape); err == nil && reflect.DeepEqual(contentOf(node), want) {
			return edited, nil
		}
	}
	return nil, &EditError{Line: e.Line, Reason: "nothing can be put before a command that is written so"}
}

// isHeredoc tells whether a heredoc alone is the command of a RUN, isScript
// whether it is run by an interpreter of its own (convert.go, dispatchRun).
func isHeredoc(node *parser.Node) bool {
	return len(node.Heredocs) > 0 && node.Next != nil && parser.MustParseHeredoc(node.Next.Value) != nil
}

func isScript(node *parser.Node) bool {
	if !isHeredoc(node) {
		return false
	}
	text := node.Heredocs[0].Content
	if node.Heredocs[0].Chomp {
		text = parser.ChompHeredocContent(text)
	}
	return strings.HasPrefix(text, "#!")
}

// bodyStart is the offset of the first line of the heredocs, the length of
// text if there are none.
func bodyStart(node *parser.Node, text []byte) int {
	body := 0
	for _, heredoc := range node.Heredocs {
		body += strings.Count(heredoc.Content, "\n") + 1
	}
	lines := slices.Collect(bytes.Lines(text))
	return len(bytes.Join(lines[:max(0, len(lines)-body)], nil))
}

// wordStarts are offsets at which a command may begin: those of words behind
// the first, or of the body alone.
func wordStarts(text []byte, body int, inBody bool) []int {
	if inBody {
		return []int{body}
	}
	var starts []int
	for at := 1; at < body; at++ {
		if isBlank(text[at-1]) && !isBlank(text[at]) && len(bytes.TrimSpace(text[:at])) > 0 {
			starts = append(starts, at)
		}
	}
	return starts
}

func isBlank(b byte) bool {
	return b == ' ' || b == '\t' || b == '\n' || b == '\r' || b == '\v' || b == '\f'
}

// parseAlone parses the text of one instruction.
func parseAlone(text []byte, escape rune) (*parser.Node, error) {
	tree, err := readTree(slices.Concat([]byte("# escape="+string(escape)+"\n"), text))
	if err != nil {
		return nil, err
	}
	if len(tree.AST.Children) != 1 {
		return nil, errors.New("not one instruction")
	}
	return tree.AST.Children[0], nil
}

// content is what the parser finds in an instruction.
type content struct {
	keyword  string
	flags    []string
	words    []string
	json     bool
	heredocs []parser.Heredoc
}

func contentOf(node *parser.Node) content {
	c := content{keyword: node.Value, flags: slices.Clone(node.Flags), json: node.Attributes["json"], heredocs: slices.Clone(node.Heredocs)}
	for next := node.Next; next != nil; next = next.Next {
		c.words = append(c.words, next.Value)
	}
	return c
}
