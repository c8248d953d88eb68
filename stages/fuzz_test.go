package stages_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unicode"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.Dockerfile")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, "edge", "deps")
	}
	f.Fuzz(func(t *testing.T, source []byte, arg, context string) {
		opt := stages.Options{Args: map[string]string{"FLAVOUR": arg}, Contexts: []string{context}}
		file, err := stages.Parse(source, opt)
		if err != nil {
			var syntax *stages.SyntaxError
			if !errors.As(err, &syntax) && !errors.Is(err, stages.ErrNoStages) && !errors.Is(err, stages.ErrTooLarge) {
				t.Fatalf("error of no type: %v", err)
			}
			if syntax != nil && (syntax.Line < 1 || !onOneLine(syntax.Message)) {
				t.Fatalf("line %d, message %q", syntax.Line, syntax.Message)
			}
			return
		}
		last := 0
		for i, s := range file.Stages {
			if s.Head.First <= last || s.Lines.Last < s.Head.Last {
				t.Fatalf("stage %d lies at %+v, the line before at %d", i, s.Lines, last)
			}
			last = s.Lines.Last
			for j, in := range s.Instructions {
				if gotStage, gotInstruction, ok := file.Find(in.Lines.Last); !ok || gotStage != i || gotInstruction != j {
					t.Fatalf("line %d is of %d.%d, not of %d.%d", in.Lines.Last, gotStage, gotInstruction, i, j)
				}
				if !onOneLine(in.Text) || len([]rune(in.Text)) > stages.MaxText {
					t.Fatalf("text %q", in.Text)
				}
			}
		}
		text, target, err := file.WithUnion(file.Leaves(file.Reachable(len(file.Stages) - 1)))
		if err != nil || len(text) > stages.MaxSize {
			return
		}
		united, err := stages.Parse(text, opt)
		if err != nil {
			t.Fatalf("union does not parse: %v\n%q", err, text)
		}
		if n := len(file.Stages); len(united.Stages) != n+1 || united.Stages[n].Name != target {
			t.Fatalf("union has %d stages, not %d\n%q", len(united.Stages), n+1, text)
		}
	})
}

func onOneLine(text string) bool {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
