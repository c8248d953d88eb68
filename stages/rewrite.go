package stages

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// A rewritten Dockerfile keeps the original's lines at their numbers, so that
// line numbers of the one are those of the other. It is to be built with all
// that the original is built with, and with File.TargetStage.

// CutBefore gives the Dockerfile up to the instruction that owns line, and the
// target to build of it ("" for an unnamed stage, which is then the last): the
// result is what the stage holds before that instruction. Before a stage's
// first instruction that is its base. The error is ErrNoInstruction for a line
// of FROM or of no instruction.
func (f *File) CutBefore(line int) (source []byte, target string, err error) {
	stage, instruction, ok := f.Find(line)
	if !ok || instruction < 0 {
		return nil, "", fmt.Errorf("cut dockerfile: %w %d", ErrNoInstruction, line)
	}
	s := f.Stages[stage]
	return f.linesBefore(s.Instructions[instruction].Lines.First), s.Name, nil
}

// CutAfter gives the Dockerfile up to the end of the stage, and the target to
// build of it, as CutBefore does: the way to build a stage to which no name
// leads.
func (f *File) CutAfter(stage int) (source []byte, target string) {
	s := f.Stages[stage]
	if stage == len(f.Stages)-1 {
		return bytes.Clone(f.Source), s.Name
	}
	return f.linesBefore(f.Stages[stage+1].Head.First), s.Name
}

func (f *File) linesBefore(line int) []byte {
	var kept []byte
	number := 0
	for text := range bytes.Lines(f.Source) {
		if number++; number == line {
			break
		}
		kept = append(kept, text...)
	}
	return kept
}

// WithUnion gives the Dockerfile with one more stage at its end, and that
// stage's name, that copies from each of the given stages, so that one build
// definition holds them all; nobody needs to evaluate it. At least one stage
// is given. It is an error if they reach one with a Fault, or if a stage has the
// reserved name scratch.
func (f *File) WithUnion(stages []int) (source []byte, target string, err error) {
	if len(stages) == 0 {
		return nil, "", errors.New("unite stages: none given")
	}
	for _, i := range stages {
		if i < 0 || i >= len(f.Stages) {
			return nil, "", fmt.Errorf("unite stages: no stage has index %d", i)
		}
	}
	if i, err := f.Lookup(scratch); err == nil { // FROM scratch would be that stage
		return nil, "", fmt.Errorf("unite stages: %w", &SyntaxError{Line: f.Stages[i].Head.First, Message: "scratch as the name of a stage", Syntax: f.Syntax})
	}
	for _, i := range f.Reachable(stages...) {
		if fault := f.Stages[i].Fault; fault != nil {
			return nil, "", fmt.Errorf("unite stages: %w", fault)
		}
	}
	text, err := f.end.close(f.Source)
	if err != nil {
		return nil, "", fmt.Errorf("unite stages: %w", err)
	}
	target = f.unusedName()
	// Another letter case than the file's would be a warning, which
	// "# check=error=true" makes an error.
	from, as, copyFrom := "FROM", "AS", "COPY"
	if f.end.lower {
		from, as, copyFrom = "from", "as", "copy"
	}
	// The lone # keeps a comment at the end of the file from being taken as
	// the description of the new stage, which is a warning too.
	text = fmt.Appendf(text, "#\n%s scratch %s %s\n", from, as, target)
	for _, i := range slices.Compact(slices.Sorted(slices.Values(stages))) {
		text = fmt.Appendf(text, "%s --from=%d / /%d/\n", copyFrom, i, i)
	}
	return text, target, nil
}

// unusedName is a name for a stage that the Dockerfile does not mention.
func (f *File) unusedName() string {
	const name = "docker-build-remote-cache-union"
	text := strings.ToLower(string(f.Source))
	unused := name
	for i := 2; strings.Contains(text, unused); i++ {
		unused = name + "-" + strconv.Itoa(i)
	}
	return unused
}

// ending is what has to be known of a file to write on after its end.
type ending struct {
	last   Range // lines of the last instruction; zero if heredocs close it
	escape rune
	lower  bool // more keywords are in lower than in upper case (validations.go, validateCommandCasing)
}

func endingOf(tree *parser.Result) ending {
	e := ending{escape: tree.EscapeToken}
	lower, upper, inStage := 0, 0, false
	for _, node := range tree.AST.Children {
		inStage = inStage || strings.EqualFold(node.Value, "FROM")
		switch {
		case inStage && node.Value == strings.ToLower(node.Value):
			lower++
		case inStage && node.Value == strings.ToUpper(node.Value):
			upper++
		}
	}
	e.lower = lower > upper
	if last := tree.AST.Children[len(tree.AST.Children)-1]; len(last.Heredocs) == 0 {
		e.last = Range{last.StartLine, last.EndLine}
	}
	return e
}

// close gives the text with a newline at its end and without the line
// continuation that may stand there: at the end of a file that means nothing,
// but it would swallow what is appended. Blank lines and comments do not end a
// continuation, so it may stand some lines up.
func (e ending) close(source []byte) ([]byte, error) {
	escape := regexp.QuoteMeta(string(e.escape))
	continued := regexp.MustCompile(`([^` + escape + `])` + escape + `[ \t]*$|^` + escape + `[ \t]*$`) // as in BuildKit's parser
	lines := slices.Collect(bytes.Lines(source))
	for n := e.last.Last; n >= max(e.last.First, 1); n-- {
		line := bytes.TrimRight(lines[n-1], "\r\n")
		if text := bytes.TrimLeftFunc(line, unicode.IsSpace); len(text) == 0 || text[0] == '#' {
			continue
		}
		if !continued.Match(line) {
			break
		}
		line = continued.ReplaceAll(line, []byte("$1"))
		if continued.Match(line) {
			return nil, &SyntaxError{Line: n, Message: "line continuation at the end of the file"}
		}
		lines[n-1] = append(line, '\n')
		if len(bytes.TrimSpace(line)) > 0 {
			break
		}
	}
	text := bytes.Join(lines, nil)
	if !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	return text, nil
}
