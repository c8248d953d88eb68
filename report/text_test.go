package report

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		seconds float64
		want    string
	}{
		{0, "0.0 s"},
		{0.4, "0.4 s"},
		{9.94, "9.9 s"},
		{9.96, "10 s"},
		{12.3, "12 s"},
		{59.4, "59 s"},
		{59.6, "1 m 00 s"},
		{252, "4 m 12 s"},
		{3599.6, "1 h 00 m"},
		{3929, "1 h 05 m"},
		{90000, "25 h 00 m"},
	} {
		if got := duration(test.seconds); got != test.want {
			t.Errorf("duration(%v) = %q, want %q", test.seconds, got, test.want)
		}
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ ref, want string }{
		{"ghcr.io/acme/app:feat-x-builder", "feat-x-builder"},
		{"localhost:5000/app:master", "master"},
		{"localhost:5000/app", "app"},
		{"app:master@sha256:0123", "master"},
		{"localhost:5000/app@sha256:0123", "sha256:0123"},
		{"type=gha,scope=x", "type=gha,scope=x"},
		{"app:::error::x", ": :error::x"},
		{"", ""},
	} {
		if got := tag(test.ref); got != test.want {
			t.Errorf("tag(%q) = %q, want %q", test.ref, got, test.want)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"RUN make \\\n\t all", `RUN make \ all`},
		{"\x1b[1;31mred\x1b[0m", "red"},
		{"\x1b]8;;https://example.com\x1b\\link\x1b]8;;\a", "link"},
		{"\u009b31mred", "red"},
		{"\x1bcreset", "reset"},
		{"user\u202etxt.exe", "usertxt.exe"},
		{"über 日本", "über 日本"},
		{"::error::x", ": :error::x"},
		{" \x00::error::x", ": :error::x"},
		{"a ##vso[task.x]", "a ## vso[task.x]"},
		{"###[error]", "### [error]"},
		{"##\x1b[0m\x00[error]", "## [error]"},
	} {
		if got := clean(test.text); got != test.want {
			t.Errorf("clean(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

// texts hold what terminals and CI systems obey, in pieces.
func texts() *rapid.Generator[string] {
	pieces := rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"\x1b", "[", "]", "#", "##", "vso[", "##VSO[", ":", "::", "\r", "\n", "\a", "\x9b", "\u009b", "\u2028", "\u202e", "\u200b", "\xff", " "}),
	)
	return rapid.Map(rapid.SliceOfN(pieces, 0, 12), func(p []string) string { return strings.Join(p, "") })
}

func TestCleanIsHarmless(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := texts().Draw(t, "text")
		got := clean(text)
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("clean(%q) = %q", text, got)
			}
		}
		lower := strings.ToLower(got)
		if strings.HasPrefix(got, "::") || strings.Contains(lower, "##[") || strings.Contains(lower, "##vso[") {
			t.Fatalf("clean(%q) = %q, a command", text, got)
		}
	})
}

// reports are made of texts that nobody checked.
func reports() *rapid.Generator[Report] {
	return rapid.Custom(func(t *rapid.T) Report {
		text := func(label string) string { return texts().Draw(t, label) }
		r := Report{
			Image: text("image"), Branch: text("branch"), DefaultBranch: text("default branch"), Engine: text("engine"),
			Result: Result{
				Status: rapid.SampledFrom([]Status{OK, Failed, Canceled, ""}).Draw(t, "result"),
				Digest: text("digest"), Error: text("error"),
			},
			Phases:   []Phase{{Name: text("phase")}},
			Skips:    []Skip{{What: text("what"), Reason: text("reason")}},
			Warnings: []string{text("warning")},
			Lineages: []Lineage{{Ref: text("ref"), Level: text("level")}},
		}
		for range rapid.IntRange(0, 30).Draw(t, "stages") {
			stage := Stage{Name: text("name")}
			for range rapid.IntRange(0, 3).Draw(t, "steps") {
				stage.Steps = append(stage.Steps, Step{
					Instruction: text("instruction"),
					Status:      rapid.SampledFrom([]Status{Cached, Ran, Failed, Canceled, Pending, ""}).Draw(t, "status"),
					Seconds:     rapid.Float64Range(0, 1e5).Draw(t, "seconds"),
					Saved:       rapid.Bool().Draw(t, "saved"),

					SavedSeconds: rapid.SampledFrom([]float64{0, 7}).Draw(t, "saved seconds"),
				})
			}
			if rapid.Bool().Draw(t, "imported") {
				stage.Imported = &Imported{Ref: text("ref"), Level: text("level")}
			}
			for range rapid.IntRange(0, 3).Draw(t, "saves") {
				stage.Saved = append(stage.Saved, Saved{Ref: text("ref"), Error: text("error")})
			}
			r.Stages = append(r.Stages, stage)
		}
		return r
	})
}

func TestTableFitsTheLine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &printer{Options: Options{Width: rapid.IntRange(80, 200).Draw(t, "width")}}
		p.table(reports().Draw(t, "report"))
		for line := range strings.Lines(p.text.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > p.Width {
				t.Fatalf("%d columns: %s", n, line)
			}
		}
	})
}

func TestFprintIsHarmless(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var out strings.Builder
		if err := Fprint(&out, reports().Draw(t, "report"), Options{}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			line = strings.ToLower(strings.TrimSuffix(line, "\n"))
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("control characters: %q", line)
			}
			if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[") || strings.Contains(line, "##vso[") {
				t.Fatalf("a command: %q", line)
			}
		}
	})
}

// Outside of code spans a summary holds only what this package wrote.
func TestMarkdownIsHarmless(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := reports().Draw(t, "report")
		text, columns := r.Markdown(), 0
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("control characters: %q", line)
			}
			parts := strings.Split(line, "`")
			if len(parts)%2 == 0 {
				t.Fatalf("a code span without end: %q", line)
			}
			for i := 0; i < len(parts); i += 2 {
				if strings.ContainsAny(parts[i], "<>[]@\\$&") {
					t.Fatalf("formatted by others: %q", line)
				}
			}
			if bars := strings.Count(line, "|"); strings.HasPrefix(line, "|") {
				if columns == 0 {
					columns = bars
				}
				if bars != columns {
					t.Fatalf("%d bars, not %d: %q", bars, columns, line)
				}
			}
		}
		if len(text) > 1<<20 {
			t.Fatalf("%d bytes", len(text))
		}
	})
}

// A level that reads as none does not let a reference through as it is.
func TestMarkdownOfALevelThatReadsAsNone(t *testing.T) {
	t.Parallel()
	r := Report{Stages: []Stage{{Name: "a", Imported: &Imported{Ref: "[", Level: "-"}}}}
	if text := r.Markdown(); !strings.Contains(text, "| `a` | `[` (`-`) |") {
		t.Error(text)
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, width := rapid.String().Draw(t, "text"), rapid.IntRange(len(ellipsis), 50).Draw(t, "width")
		for _, got := range []string{shorten(text, width), cut(text, width)} {
			if n := utf8.RuneCountInString(got); n > width || n < min(width, utf8.RuneCountInString(text)) {
				t.Fatalf("%q in %d: %q", text, width, got)
			}
		}
	})
}

// Stages that share a tag lose it once.
func TestLossesNameATagOnce(t *testing.T) {
	t.Parallel()
	lost := []Saved{{Ref: "r/app:x-partial-1", Error: "refused"}}
	got := Report{Stages: []Stage{{Name: "a", Saved: lost}, {Name: "b", Saved: lost}}}.Losses()
	if want := []string{"cache lost, not saved to x-partial-1: refused"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
