package stages_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

const (
	editMount   = "type=secret,id=" + stages.ReservedPrefix + "x,env=X"
	editPrelude = "test ! -f /dev/x || . /dev/x;"
)

// everyEdit asks for all that can be edited: a mount and a prelude for every
// RUN, every ARG dropped, every ENV replaced.
func everyEdit(f *stages.File, prelude bool) (edits []stages.Edit) {
	for _, s := range f.Stages {
		for _, in := range s.Instructions {
			e := stages.Edit{Line: in.Lines.First}
			switch in.Kind {
			case "RUN":
				e.Mounts = []string{editMount, "type=cache,target=/cache"}
				if prelude {
					e.Prelude = editPrelude
				}
			case "ARG":
				e.Drop = true
			case "ENV":
				e.Replace = "ENV REPLACED=\"$HOME\""
			}
			edits = append(edits, e)
		}
	}
	return edits
}

// editedText gives the text of an edited file, or the errors of the single edits
// that cannot be made, and the text without them.
func editedText(f *stages.File, edits []stages.Edit) string {
	var done, refused []string
	var possible []stages.Edit
	for _, e := range edits {
		if _, err := f.Edited([]stages.Edit{e}); err != nil {
			refused = append(refused, err.Error())
			continue
		}
		possible = append(possible, e)
	}
	g, err := f.Edited(possible)
	if err != nil {
		return err.Error() + "\n"
	}
	done = append(done, string(g.Source))
	if len(refused) > 0 {
		done = append(done, "\n--- cannot be edited:\n", strings.Join(refused, "\n"), "\n")
	}
	return strings.Join(done, "")
}

func TestEditedGolden(t *testing.T) {
	eachCorpusFile(t, "edited", func(t *testing.T, source []byte, opt stages.Options) string {
		f, err := stages.Parse(source, opt)
		if err != nil {
			t.Fatal(err)
		}
		return editedText(f, everyEdit(f, true))
	})
}

// corpus are the Dockerfiles of the test data that parse, and those of the
// examples.
func corpus(t testing.TB) map[string][]byte {
	found := map[string][]byte{}
	for _, pattern := range []string{"testdata/good/*.Dockerfile", "testdata/edited/*.Dockerfile", "../examples/*/Dockerfile", "../examples/*/*/Dockerfile"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if found[path], err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(found) < 25 {
		t.Fatalf("only %d files", len(found))
	}
	return found
}

func TestEditedCorpus(t *testing.T) {
	for path, source := range corpus(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			opt := corpusOptions[strings.TrimSuffix(filepath.Base(path), ".Dockerfile")]
			f, err := stages.Parse(source, opt)
			if err != nil {
				t.Fatal(err)
			}
			same, err := f.Edited(nil)
			if err != nil || !bytes.Equal(same.Source, source) || !bytes.Equal(same.Original(), source) {
				t.Fatalf("no edits change the file: %v\n%s", err, same.Source)
			}
			empty, err := f.Edited([]stages.Edit{{Line: f.Stages[0].Head.First}})
			if err != nil || !bytes.Equal(empty.Source, source) {
				t.Fatalf("an empty edit changes the file: %v\n%s", err, empty.Source)
			}
			checkEdited(t, f, opt)
		})
	}
}

// checkEdited makes each possible edit alone, then all of them together.
func checkEdited(t failer, f *stages.File, opt stages.Options) {
	var possible []stages.Edit
	for _, prelude := range []bool{true, false} {
		for _, e := range everyEdit(f, prelude) {
			g, err := f.Edited([]stages.Edit{e})
			if err != nil {
				var refused *stages.EditError
				if !errors.As(err, &refused) || refused.Line != e.Line {
					t.Fatalf("edit of line %d: %v", e.Line, err)
				}
				continue
			}
			checkOneEdit(t, f, g, e, opt)
			if !slices.ContainsFunc(possible, func(p stages.Edit) bool { return p.Line == e.Line }) {
				possible = append(possible, e)
			}
		}
	}
	all, err := f.Edited(possible)
	if err != nil {
		t.Fatalf("edits that are possible one by one are not together: %v", err)
	}
	checkOneEdit(t, f, all, stages.Edit{}, opt)
	// In another order, and one after the other, they give the same file.
	slices.Reverse(possible)
	again, err := f.Edited(possible)
	if err != nil || !bytes.Equal(again.Source, all.Source) {
		t.Fatalf("the order of edits matters: %v\n%s\n---\n%s", err, all.Source, again.Source)
	}
	one := f
	for _, e := range possible {
		if one, err = one.Edited([]stages.Edit{e}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Source, all.Source) || !bytes.Equal(one.Original(), f.Source) {
		t.Fatalf("edits one after the other give\n%s\n--- instead of\n%s", one.Source, all.Source)
	}
}

// checkOneEdit compares a file before and after an edit; of a zero edit, only
// what all have in common.
func checkOneEdit(t failer, before, after *stages.File, e stages.Edit, opt stages.Options) {
	parsed, err := stages.Parse(after.Source, opt)
	if err != nil {
		t.Fatalf("the edited file does not parse: %v\n%s", err, after.Source)
	}
	if len(parsed.Stages) != len(before.Stages) {
		t.Fatalf("%d stages became %d", len(before.Stages), len(parsed.Stages))
	}
	for i, s := range before.Stages {
		if got, want := stepLines(parsed.Stages[i]), stepLines(s); !slices.Equal(got, want) {
			t.Fatalf("the steps %v of stage %d became %v\n%s", want, i, got, after.Source)
		}
		if p := parsed.Stages[i]; p.Name != s.Name || p.Base != s.Base || !slices.Equal(p.Needs, s.Needs) || p.Head != s.Head {
			t.Fatalf("stage %+v became %+v", s, p)
		}
		told := func(a, b stages.Instruction) bool {
			return a.Kind == b.Kind && a.Lines == b.Lines && a.Text == b.Text
		}
		if !slices.EqualFunc(after.Stages[i].Instructions, s.Instructions, told) {
			t.Fatalf("stage %d is not told as it was written", i)
		}
	}
	old, edited := bytes.SplitAfter(before.Source, []byte("\n")), bytes.SplitAfter(after.Source, []byte("\n"))
	if len(old) != len(edited) {
		t.Fatalf("%d lines became %d", len(old), len(edited))
	}
	if e.Line == 0 {
		return
	}
	_, index, _ := before.Find(e.Line)
	stage, _, _ := before.Find(e.Line)
	lines := before.Stages[stage].Instructions[index].Lines
	for i := range old {
		if !lines.Contains(i+1) && !bytes.Equal(old[i], edited[i]) {
			t.Fatalf("the edit of lines %v changed line %d to %q", lines, i+1, edited[i])
		}
	}
}

func stepLines(s stages.Stage) (lines []int) {
	for _, in := range s.Instructions {
		if in.Step() {
			lines = append(lines, in.Lines.First)
		}
	}
	return lines
}

func TestEditedProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, err := stages.Parse([]byte(dockerfiles.Draw(t, "source")), stages.Options{})
		if err != nil {
			t.Skip("a stage needs itself:", err)
		}
		checkEdited(t, f, stages.Options{})
	})
}

// failer is a test, of properties or not.
type failer interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

func TestEditedAddsUp(t *testing.T) {
	f := mustParse(t, "FROM a\nRUN --network=none x\n")
	g, err := f.Edited([]stages.Edit{
		{Line: 2, Mounts: []string{"type=secret,id=a", "type=secret,id=b"}, Prelude: "a;"},
		{Line: 2, Mounts: []string{"type=cache,target=$HOME/c"}},
		{Line: 2, Prelude: "b; c;"},
	})
	const want = "FROM a\nRUN --mount=type=secret,id=a --mount=type=secret,id=b --mount=type=cache,target=$HOME/c --network=none a; b; c; x\n"
	if err != nil || string(g.Source) != want {
		t.Fatalf("%v\n%s", err, g.Source)
	}
	if got := g.Preludes(); !slices.Equal(got, []string{"a; b; c;"}) {
		t.Errorf("preludes %q", got)
	}
}

// What is written on from an edited file is edited too.
func TestEditedIsCutAndUnited(t *testing.T) {
	f := mustParse(t, "FROM a AS one\nARG T\nRUN x\nRUN y\nFROM one\nRUN z")
	g, err := f.Edited(everyEdit(f, false))
	if err != nil {
		t.Fatal(err)
	}
	mounts := "RUN --mount=" + editMount + " --mount=type=cache,target=/cache "
	if got, _, err := g.CutBefore(4); err != nil || string(got) != "FROM a AS one\n#\n"+mounts+"x\n" {
		t.Errorf("%v\n%s", err, got)
	}
	want := "FROM a AS one\n#\n" + mounts + "x\n" + mounts + "y\nFROM one\n" + mounts + "z\n#\n"
	if got, _, err := g.WithUnion([]int{0, 1}); err != nil || !strings.HasPrefix(string(got), want) {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestEditedErrors(t *testing.T) {
	const source = "FROM a\nRUN x\nARG T\nCOPY a \\\n  b\n\\\nRUN y\nONBUILD RUN z\nRUN [\"x\"]\n"
	f := mustParse(t, source)
	for label, c := range map[string]struct {
		edits []stages.Edit
		line  int
	}{
		"FROM":                        {[]stages.Edit{{Line: 1, Drop: true}}, 1},
		"a line within":               {[]stages.Edit{{Line: 5, Drop: true}}, 5},
		"no line":                     {[]stages.Edit{{Line: 77, Drop: true}}, 77},
		"a step dropped":              {[]stages.Edit{{Line: 2, Drop: true}}, 2},
		"a mount of COPY":             {[]stages.Edit{{Line: 4, Mounts: []string{"x"}}}, 4},
		"a mount of ONBUILD":          {[]stages.Edit{{Line: 8, Mounts: []string{"x"}}}, 8},
		"a keyword on the next line":  {[]stages.Edit{{Line: 6, Mounts: []string{"type=cache,target=/x"}}}, 6},
		"a mount with a space":        {[]stages.Edit{{Line: 2, Mounts: []string{"target=a b"}}}, 2},
		"a mount with a line":         {[]stages.Edit{{Line: 2, Mounts: []string{"target=a\nRUN evil"}}}, 2},
		"a prelude of two lines":      {[]stages.Edit{{Line: 2, Prelude: "a;\nb;"}}, 2},
		"a prelude that does not end": {[]stages.Edit{{Line: 2, Prelude: "a"}}, 2},
		"a prelude for exec form":     {[]stages.Edit{{Line: 9, Prelude: "a;"}}, 9},
		"dropped and replaced":        {[]stages.Edit{{Line: 3, Drop: true}, {Line: 3, Replace: "ARG X"}}, 3},
		"replaced twice":              {[]stages.Edit{{Line: 3, Replace: "ARG Y"}, {Line: 3, Replace: "ARG X"}}, 3},
		"replaced by another kind":    {[]stages.Edit{{Line: 3, Replace: "ENV X=y"}}, 3},
		"replaced by more lines":      {[]stages.Edit{{Line: 3, Replace: "ARG X \\\n Y"}}, 3},
		"replaced by two":             {[]stages.Edit{{Line: 4, Replace: "COPY x y\nCOPY y z"}}, 4},
	} {
		t.Run(label, func(t *testing.T) {
			g, err := f.Edited(c.edits)
			var refused *stages.EditError
			if !errors.As(err, &refused) || refused.Line != c.line {
				t.Fatalf("got %v\n%v", err, g)
			}
		})
	}
	if string(f.Source) != source {
		t.Errorf("the original became %q", f.Source)
	}
}

func FuzzEdited(f *testing.F) {
	for _, source := range corpus(f) {
		f.Add(source, editMount, editPrelude, "ENV A=b")
	}
	f.Fuzz(func(t *testing.T, source []byte, mount, prelude, replace string) {
		opt := stages.Options{Args: map[string]string{"FLAVOUR": "x"}}
		file, err := stages.Parse(source, opt)
		if err != nil || len(source) > 1<<12 {
			return
		}
		for _, e := range everyEdit(file, true) {
			if e.Mounts != nil {
				e.Mounts = []string{mount}
			}
			if e.Prelude != "" {
				e.Prelude = prelude
			}
			if e.Replace != "" {
				e.Replace = replace
			}
			if g, err := file.Edited([]stages.Edit{e}); err == nil && !bytes.Equal(g.Source, source) {
				checkOneEdit(t, file, g, e, opt)
			}
		}
	})
}

// Cache mounts that an edit adds are kept like those that people wrote.
func TestEditedHasTheCacheMountsThatWereAdded(t *testing.T) {
	t.Parallel()
	f, err := stages.Parse([]byte("FROM a\nRUN --mount=type=cache,target=/one 1\nRUN 2\n"), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	edited, err := f.Edited([]stages.Edit{{Line: 3, Mounts: []string{"type=cache,id=two,target=/two"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file *stages.File
		want []string
	}{{f, []string{"/one"}}, {edited, []string{"/one", "two"}}} {
		var ids []string
		for _, m := range c.file.CacheMounts([]int{0}) {
			ids = append(ids, m.ID)
		}
		if !slices.Equal(ids, c.want) {
			t.Errorf("mounts are %v, want %v", ids, c.want)
		}
	}
}
