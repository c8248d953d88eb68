package stages_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// example has these stages: base and builder, test above builder, an unnamed
// one, and the final one, which needs builder and the unnamed one.
const example = `FROM alpine AS base
RUN true
FROM base AS Builder
RUN make

FROM builder AS test
# a comment
RUN make test && \
    make lint
FROM debian
FROM scratch AS final
COPY --from=builder / /
COPY --from=3 / /
`

func mustParse(t interface {
	Helper()
	Fatalf(string, ...any)
}, source string) *stages.File {
	t.Helper()
	f, err := stages.Parse([]byte(source), stages.Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, source)
	}
	return f
}

func TestLookup(t *testing.T) {
	f := mustParse(t, example)
	for target, want := range map[string]int{
		"": 4, "base": 0, "builder": 1, "BUILDER": 1, "test": 2, "3": 3, "0": 0, "final": 4,
	} {
		if got, err := f.Lookup(target); err != nil || got != want {
			t.Errorf("Lookup(%q) = %d, %v, want %d", target, got, err, want)
		}
	}
	for target, nearest := range map[string]string{
		"buidler": "builder", "FINALE": "final", "nothing-near": "", "5": "", "-1": "", "+1": "", "01": "", " ": "",
	} {
		_, err := f.Lookup(target)
		var unknown *stages.UnknownTargetError
		if !errors.As(err, &unknown) {
			t.Errorf("Lookup(%q): error %v", target, err)
			continue
		}
		want := &stages.UnknownTargetError{Target: target, Known: []string{"base", "builder", "test", "3", "final"}, Nearest: nearest}
		if diff := cmp.Diff(want, unknown); diff != "" {
			t.Errorf("Lookup(%q) (-want +got)\n%s", target, diff)
		}
		if nearest != "" && !strings.Contains(err.Error(), nearest) {
			t.Errorf("message %q does not name %s", err, nearest)
		}
	}
}

func TestLookupFindsTheLastOfAName(t *testing.T) {
	f := mustParse(t, "FROM a AS x\nFROM b AS x\nFROM c\n")
	if got, err := f.Lookup("x"); err != nil || got != 1 {
		t.Errorf("got %d, %v", got, err)
	}
	for i, want := range []string{"0", "x", "2"} {
		if got := f.Stages[i].Target(); got != want {
			t.Errorf("target of stage %d is %s, want %s", i, got, want)
		}
	}
}

func TestReachableAndLeaves(t *testing.T) {
	f := mustParse(t, example)
	for _, c := range []struct{ among, reachable, leaves []int }{
		{nil, nil, nil},
		{[]int{0}, []int{0}, []int{0}},
		{[]int{2}, []int{0, 1, 2}, []int{2}},
		{[]int{4}, []int{0, 1, 3, 4}, []int{4}},
		{[]int{4, 2, 4}, []int{0, 1, 2, 3, 4}, []int{2, 4}},
		{[]int{0, 1, 2, 3, 4}, []int{0, 1, 2, 3, 4}, []int{2, 4}},
		{[]int{0, 2}, []int{0, 1, 2}, []int{2}}, // needs 0 through 1, which is not among them
		{[]int{3, 2}, []int{0, 1, 2, 3}, []int{2, 3}},
	} {
		if got := f.Reachable(c.among...); !slices.Equal(got, c.reachable) {
			t.Errorf("Reachable(%v) = %v, want %v", c.among, got, c.reachable)
		}
		if got := f.Leaves(c.among); !slices.Equal(got, c.leaves) {
			t.Errorf("Leaves(%v) = %v, want %v", c.among, got, c.leaves)
		}
	}
}

func TestFind(t *testing.T) {
	f := mustParse(t, "ARG A\n"+example)
	got := ""
	for line := range 17 {
		stage, instruction, ok := f.Find(line)
		if !ok {
			got += fmt.Sprintf("%d none\n", line)
			continue
		}
		got += fmt.Sprintf("%d %d.%d\n", line, stage, instruction)
	}
	want := `0 none
1 none
2 0.-1
3 0.0
4 1.-1
5 1.0
6 none
7 2.-1
8 none
9 2.0
10 2.0
11 3.-1
12 4.-1
13 4.0
14 4.1
15 none
16 none
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestThousandStages(t *testing.T) {
	var b strings.Builder
	b.WriteString("FROM alpine AS s0\n")
	for i := 1; i < 1000; i++ {
		fmt.Fprintf(&b, "FROM s%d AS s%d\nCOPY --from=%d / /\n", i-1, i, i/2)
	}
	f := mustParse(t, b.String())
	if got := len(f.Reachable(999)); got != 1000 {
		t.Errorf("%d stages are reachable", got)
	}
	if got := f.Leaves(f.Reachable(999)); !slices.Equal(got, []int{999}) {
		t.Errorf("leaves %v", got)
	}
	if got := len(f.Reachable(500)); got != 501 {
		t.Errorf("%d stages are reachable from 500", got)
	}
}

func TestBounds(t *testing.T) {
	const limit = 1<<16 - 1
	comment := "#" + strings.Repeat("x", 99) + "\n"
	fill := strings.Repeat(comment, (stages.MaxSize-len("FROM a\n"))/len(comment))
	for name, c := range map[string]struct {
		source string
		line   int // of a SyntaxError, 0 for none
		err    error
	}{
		"largest file":         {source: "FROM a\n" + fill},
		"too large a file":     {source: "FROM a\n" + fill + comment, err: stages.ErrTooLarge},
		"longest line":         {source: "FROM a\nRUN " + strings.Repeat("x", limit-5) + "\n"},
		"too long a line":      {source: "FROM a\nRUN " + strings.Repeat("x", limit) + "\n", line: 2},
		"too long a first":     {source: "FROM " + strings.Repeat("x", limit), line: 1},
		"too long in heredoc":  {source: "FROM a\nRUN <<E\n\n" + strings.Repeat("x", limit+1) + "\nE\n", line: 4},
		"too long a word":      {source: "ARG A=" + strings.Repeat(strings.Repeat("x", 1<<15)+"\\\n", 3) + "x\nFROM a\n", line: 1},
		"long value, not used": {source: "ARG A=" + strings.Repeat("x", 1<<15) + "\nFROM a\n"},
		"NUL in a name":        {source: "FROM a\x00b\n", line: 1},
		"no UTF-8 in a name":   {source: "FROM a\nCOPY --from=\xff / /\n", line: 2},
		"no UTF-8 elsewhere":   {source: "# \xff\nFROM a\nRUN echo \xff\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := stages.Parse([]byte(c.source), stages.Options{})
			var syntax *stages.SyntaxError
			switch {
			case c.line > 0 && (!errors.As(err, &syntax) || syntax.Line != c.line):
				t.Errorf("got %v, want a syntax error at line %d", err, c.line)
			case c.line == 0 && !errors.Is(err, c.err):
				t.Errorf("got %v, want %v", err, c.err)
			case err != nil && len(err.Error()) > 400:
				t.Errorf("message of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestSyntaxErrorsNameTheFrontend(t *testing.T) {
	_, err := stages.Parse([]byte("# syntax=acme/dockerfile:2\nFROM a\nNEWER x\n"), stages.Options{})
	var syntax *stages.SyntaxError
	if !errors.As(err, &syntax) || syntax.Syntax != "acme/dockerfile:2" || syntax.Line != 3 {
		t.Errorf("got %#v", err)
	}
}

func TestPlatformOptions(t *testing.T) {
	const source = "FROM a:$BUILDARCH-$TARGETARCH\n"
	for _, c := range []struct {
		opt  stages.Options
		base string
	}{
		{stages.Options{}, "a:amd64-amd64"},
		{stages.Options{Platform: "linux/arm64"}, "a:arm64-arm64"},
		{stages.Options{BuildPlatform: "linux/arm64"}, "a:arm64-arm64"},
		{stages.Options{Platform: "linux/s390x", BuildPlatform: "linux/arm64"}, "a:arm64-s390x"},
		{stages.Options{Args: map[string]string{"TARGETARCH": "mine"}}, "a:amd64-mine"},
	} {
		f, err := stages.Parse([]byte(source), c.opt)
		if err != nil || f.Stages[0].Base != c.base {
			t.Errorf("%+v: %v, %v", c.opt, f, err)
		}
	}
	if _, err := stages.Parse([]byte(source), stages.Options{Platform: "a/b/c/d"}); err == nil {
		t.Error("no error for a bad platform")
	}
}
