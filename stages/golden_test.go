package stages_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

var update = flag.Bool("update", false, "write the golden files anew")

// corpusOptions are the options of those corpus files that need any.
var corpusOptions = map[string]stages.Options{
	"cache-mounts": {Args: map[string]string{"FLAVOUR": "edge", "UNUSED": "x"}},
	"args":         {Args: map[string]string{"FLAVOUR": "edge", "REGISTRY": "ghcr.io", "UNUSED": "x"}},
	"platforms": {
		Platform: "linux/arm/v7", BuildPlatform: "linux/arm64", Target: "release",
	},
	"contexts": {Contexts: []string{"deps", "assets", "ghcr.io/acme/tools", "docker.io/library/base:latest"}},
}

func TestGolden(t *testing.T) {
	eachCorpusFile(t, "good", func(t *testing.T, source []byte, opt stages.Options) string {
		f, err := stages.Parse(source, opt)
		if err != nil {
			t.Fatal(err)
		}
		return dump(f)
	})
}

func TestGoldenErrors(t *testing.T) {
	eachCorpusFile(t, "bad", func(t *testing.T, source []byte, opt stages.Options) string {
		_, err := stages.Parse(source, opt)
		var syntax *stages.SyntaxError
		switch {
		case err == nil:
			t.Fatal("no error")
		case errors.As(err, &syntax) && (syntax.Line < 1 || strings.Contains(syntax.Message, "\n")):
			t.Errorf("line %d, message %q", syntax.Line, syntax.Message)
		case syntax == nil && !errors.Is(err, stages.ErrNoStages):
			t.Errorf("error of no type: %v", err)
		}
		return err.Error() + "\n"
	})
}

func eachCorpusFile(t *testing.T, dir string, run func(*testing.T, []byte, stages.Options) string) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.Dockerfile"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d corpus files, %v", len(files), err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".Dockerfile")
		t.Run(name, func(t *testing.T) {
			got := run(t, readFile(t, path), corpusOptions[name])
			golden := strings.TrimSuffix(path, ".Dockerfile") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(readFile(t, golden)), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// dump is everything in a File except its text, for golden files.
func dump(f *stages.File) string {
	var b strings.Builder
	fmt.Fprintf(&b, "syntax %q, target stage %q\n", f.Syntax, f.TargetStage)
	for _, s := range f.Stages {
		fmt.Fprintf(&b, "\n%d: target %s, name %q, base %q", s.Index, s.Target(), s.Name, s.Base)
		if s.From >= 0 {
			fmt.Fprintf(&b, " = stage %d", s.From)
		}
		if s.Platform != "" {
			fmt.Fprintf(&b, ", platform %s", s.Platform)
		}
		fmt.Fprintf(&b, "\n   lines %s, head %s, needs %v, images %q", lines(s.Lines), lines(s.Head), s.Needs, s.Images)
		if s.Replaced {
			b.WriteString(", replaced")
		}
		if s.Shadowed {
			b.WriteString(", shadowed")
		}
		b.WriteByte('\n')
		if s.Fault != nil {
			fmt.Fprintf(&b, "   fault: %v\n", s.Fault)
		}
		for _, i := range s.Instructions {
			step := "meta"
			if i.Step() {
				step = "step"
			}
			fmt.Fprintf(&b, "   %s %s %s | %s\n", lines(i.Lines), step, i.Kind, i.Text)
			for _, m := range i.CacheMounts {
				fmt.Fprintf(&b, "      cache mount %s at %q, %s", m.Key(), m.Target, m.Sharing)
				if m.ReadOnly {
					b.WriteString(", read only")
				}
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

func lines(r stages.Range) string { return fmt.Sprintf("%d-%d", r.First, r.Last) }
