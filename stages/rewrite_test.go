package stages_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

func TestCutBefore(t *testing.T) {
	f := mustParse(t, example)
	head := func(n int) string { return strings.Join(strings.SplitAfter(example, "\n")[:n], "") }
	for line, want := range map[int]struct {
		keep   int // lines
		target string
	}{
		2: {1, "base"}, 4: {3, "builder"}, 8: {7, "test"}, 9: {7, "test"}, 12: {11, "final"}, 13: {12, "final"},
	} {
		got, target, err := f.CutBefore(line)
		if err != nil || string(got) != head(want.keep) || target != want.target {
			t.Errorf("CutBefore(%d) = target %q, %v\n%s", line, target, err, got)
		}
	}
	for _, line := range []int{-1, 0, 1, 3, 5, 7, 10, 14, 1000} {
		if _, _, err := f.CutBefore(line); !errors.Is(err, stages.ErrNoInstruction) {
			t.Errorf("CutBefore(%d): error %v", line, err)
		}
	}
}

func TestCutAfter(t *testing.T) {
	f := mustParse(t, example)
	for stage, want := range []string{"base", "builder", "test", "", "final"} {
		got, target := f.CutAfter(stage)
		cut := mustParse(t, string(got))
		if target != want || len(cut.Stages) != stage+1 || !strings.HasPrefix(example, string(got)) {
			t.Errorf("CutAfter(%d) = target %q\n%s", stage, target, got)
		}
	}
}

func TestWithUnion(t *testing.T) {
	const name = "docker-build-remote-cache-union"
	for label, c := range map[string]struct {
		source string
		among  []int
		want   string
	}{
		"several, in any order, twice": {
			"FROM a\nFROM b\nFROM c\n", []int{2, 0, 2},
			"FROM a\nFROM b\nFROM c\n#\nFROM scratch AS " + name + "\nCOPY --from=0 / /0/\nCOPY --from=2 / /2/\n",
		},
		"no newline": {"FROM a", []int{0}, "FROM a\n#\nFROM scratch AS " + name + "\nCOPY --from=0 / /0/\n"},
		"lower case": {
			"ARG A\nARG B\nARG C\nfrom a\n# c", []int{0},
			"ARG A\nARG B\nARG C\nfrom a\n# c\n#\nfrom scratch as " + name + "\ncopy --from=0 / /0/\n",
		},
		"open line": {
			"FROM a\nRUN x \\", []int{0},
			"FROM a\nRUN x \n#\nFROM scratch AS " + name + "\nCOPY --from=0 / /0/\n",
		},
		"open line, blank and comment below": {
			"FROM a\r\nRUN x \\ \r\n\r\n  # c \\", []int{0},
			"FROM a\r\nRUN x \n\r\n  # c \\\n#\nFROM scratch AS " + name + "\nCOPY --from=0 / /0/\n",
		},
		"two open lines": {
			"FROM a\nRUN x \\\n\\\n", []int{0},
			"FROM a\nRUN x \n\n#\nFROM scratch AS " + name + "\nCOPY --from=0 / /0/\n",
		},
		"another escape": {
			"# escape=`\nFROM a\nRUN c:\\\nRUN d `\n", []int{0},
			"# escape=`\nFROM a\nRUN c:\\\nRUN d \n#\nFROM scratch AS " + name + "\nCOPY --from=0 / /0/\n",
		},
		"no open line": {
			"FROM a\nRUN x \\\\\n", []int{0},
			"FROM a\nRUN x \\\\\n#\nFROM scratch AS " + name + "\nCOPY --from=0 / /0/\n",
		},
		"heredoc": {
			"FROM a\nRUN <<'\\'\nx \\\n\\", []int{0},
			"FROM a\nRUN <<'\\'\nx \\\n\\\n#\nFROM scratch AS " + name + "\nCOPY --from=0 / /0/\n",
		},
		"name taken": {
			"FROM a AS Docker-Build-Remote-Cache-Union\n", []int{0},
			"FROM a AS Docker-Build-Remote-Cache-Union\n#\nFROM scratch AS " + name + "-2\nCOPY --from=0 / /0/\n",
		},
	} {
		t.Run(label, func(t *testing.T) {
			f := mustParse(t, c.source)
			got, target, err := f.WithUnion(c.among)
			if err != nil || string(got) != c.want {
				t.Fatalf("%v\n got %q\nwant %q", err, got, c.want)
			}
			u := mustParse(t, string(got))
			if last := u.Stages[len(u.Stages)-1]; last.Name != target || len(u.Stages) != len(f.Stages)+1 {
				t.Errorf("target %q, %d stages", target, len(u.Stages))
			}
			if string(f.Source) != c.source {
				t.Errorf("the original became %q", f.Source)
			}
		})
	}
}

func TestWithUnionErrors(t *testing.T) {
	for label, c := range map[string]struct {
		source string
		among  []int
	}{
		"none":              {"FROM a\n", nil},
		"negative":          {"FROM a\n", []int{-1}},
		"past the end":      {"FROM a\n", []int{1}},
		"a fault":           {"FROM a\nCOPY --from=b / /\nFROM a AS b\n", []int{0}},
		"a stage scratch":   {"FROM a AS scratch\n", []int{0}},
		"an escaped escape": {"FROM a\nRUN x \\ \\", []int{0}},
	} {
		if got, _, err := mustParse(t, c.source).WithUnion(c.among); err == nil {
			t.Errorf("%s: no error, %q", label, got)
		}
	}
}

func TestTargetStage(t *testing.T) {
	const source = "FROM a-$TARGETSTAGE AS b\nFROM c AS d\n"
	for target, want := range map[string]string{"": "d", "b": "b"} {
		f, err := stages.Parse([]byte(source), stages.Options{Target: target})
		if err != nil || f.TargetStage != want || f.Stages[0].Base != "a-"+want {
			t.Errorf("target %q: %+v, %v", target, f, err)
		}
	}
	if f := mustParse(t, example); f.TargetStage != "" {
		t.Errorf("target stage %q of a file that does not use it", f.TargetStage)
	}
}

// dockerfiles draws Dockerfiles that parse, with all kinds of references.
var dockerfiles = rapid.Custom(func(t *rapid.T) string {
	eol := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "eol")
	n := rapid.IntRange(1, 8).Draw(t, "stages")
	var names []string
	text := ""
	for i := range n {
		base := "image:1"
		if len(names) > 0 && rapid.Bool().Draw(t, "on stage") {
			base = rapid.SampledFrom(names).Draw(t, "base")
		}
		text += "FROM " + base
		if rapid.Bool().Draw(t, "named") {
			name := fmt.Sprintf("s%d", rapid.IntRange(i, n).Draw(t, "name")) // at times a name twice
			names = append(names, name)
			text += " AS " + name
		}
		text += eol
		for range rapid.IntRange(0, 4).Draw(t, "instructions") {
			from := fmt.Sprint(rapid.IntRange(0, n-1).Draw(t, "from"))
			text += rapid.SampledFrom([]string{
				"RUN a \\" + eol + "  # comment" + eol + "  b" + eol,
				"RUN <<E" + eol + "FROM heredoc" + eol + "E" + eol,
				"COPY --from=s" + from + " / /" + eol,
				"COPY --from=" + fmt.Sprint(max(0, i-1)) + " / /" + eol,
				"RUN --mount=from=s" + from + ",target=/x true" + eol,
				"ONBUILD COPY --from=s" + from + " / /" + eol,
				"ENV A=b" + eol + eol,
				"# comment" + eol,
				"WORKDIR /x" + eol,
			}).Draw(t, "instruction")
		}
	}
	return text + rapid.SampledFrom([]string{"", "# end", "RUN x \\", "RUN x \\" + eol + "# c" + eol, eol}).Draw(t, "end")
})

func TestProperties(t *testing.T) {
	sound := 0
	rapid.Check(t, func(t *rapid.T) {
		source := dockerfiles.Draw(t, "source")
		f, err := stages.Parse([]byte(source), stages.Options{})
		if err != nil {
			t.Skip("a stage needs itself:", err)
		}
		checkGraph(t, f)
		checkCuts(t, f)
		if checkUnion(t, f) {
			sound++
		}
	})
	if sound == 0 {
		t.Error("no file was sound")
	}
}

func checkGraph(t *rapid.T, f *stages.File) {
	for i, s := range f.Stages {
		if s.Index != i || !slices.IsSorted(s.Needs) || len(s.Needs) > 0 && s.Needs[len(s.Needs)-1] >= i {
			t.Fatalf("stage %d: %+v", i, s)
		}
		if j, err := f.Lookup(s.Target()); err != nil || j != i {
			t.Fatalf("Lookup(%q) = %d, %v, want %d", s.Target(), j, err, i)
		}
		reachable := f.Reachable(i)
		for _, j := range reachable {
			for _, need := range f.Stages[j].Needs {
				if !slices.Contains(reachable, need) {
					t.Fatalf("reachable from %d are %v, which lacks %d", i, reachable, need)
				}
			}
		}
	}
	among := rapid.SliceOf(rapid.IntRange(0, len(f.Stages)-1)).Draw(t, "among")
	leaves := f.Leaves(among)
	if !slices.Equal(f.Reachable(leaves...), f.Reachable(among...)) {
		t.Fatalf("leaves %v of %v do not reach all", leaves, among)
	}
	for _, leaf := range leaves {
		others := slices.DeleteFunc(slices.Clone(among), func(i int) bool { return i == leaf })
		if slices.Contains(f.Reachable(others...), leaf) {
			t.Fatalf("leaf %d of %v is needed by another", leaf, among)
		}
	}
}

func checkCuts(t *rapid.T, f *stages.File) {
	if slices.ContainsFunc(f.Stages, func(s stages.Stage) bool { return s.Fault != nil }) {
		return // such a stage may name one that is cut off
	}
	for i, s := range f.Stages {
		for j, in := range s.Instructions {
			text, target, err := f.CutBefore(in.Lines.First)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(f.Source), string(text)) {
				t.Fatalf("lines have changed:\n%s", text)
			}
			cut, err := stages.Parse(text, stages.Options{})
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			got, err := cut.Lookup(target)
			if err != nil || got != i || len(cut.Stages) != i+1 || len(cut.Stages[i].Instructions) != j {
				t.Fatalf("target %q is stage %d, %v, want %d with %d instructions\n%s", target, got, err, i, j, text)
			}
		}
	}
}

func checkUnion(t *rapid.T, f *stages.File) bool {
	among := rapid.SliceOfN(rapid.IntRange(0, len(f.Stages)-1), 1, -1).Draw(t, "united")
	text, target, err := f.WithUnion(among)
	if err != nil {
		if !slices.ContainsFunc(f.Stages, func(s stages.Stage) bool { return s.Fault != nil }) {
			t.Fatal(err)
		}
		return false
	}
	u, err := stages.Parse(text, stages.Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	last := len(f.Stages)
	if len(u.Stages) != last+1 || u.Stages[last].Name != target {
		t.Fatalf("%d stages, target %s\n%s", len(u.Stages), target, text)
	}
	if want := slices.Compact(slices.Sorted(slices.Values(among))); !slices.Equal(u.Stages[last].Needs, want) {
		t.Fatalf("union of %v needs %v\n%s", want, u.Stages[last].Needs, text)
	}
	for i, s := range f.Stages {
		got := u.Stages[i]
		if got.Head != s.Head || got.Base != s.Base || !slices.Equal(got.Needs, s.Needs) || len(got.Instructions) != len(s.Instructions) {
			t.Fatalf("stage %d became %+v", i, got)
		}
		for j, in := range s.Instructions {
			// Below a line that the end of the file left open, comments are
			// no longer the instruction's.
			if g := got.Instructions[j]; g.Text != in.Text || g.Lines.First != in.Lines.First || g.Lines.Last > in.Lines.Last {
				t.Fatalf("instruction %+v became %+v", in, g)
			}
		}
	}
	return true
}
