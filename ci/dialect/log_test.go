package dialect

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestOutputOfOthersIsNotObeyed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"#12 0.123 go build\n", "#12 0.123 go build\n"},
		{"::set-env name=PATH::/evil\n", ": :set-env name=PATH::/evil\n"},
		{"  \t::add-mask::a\n", "  \t: :add-mask::a\n"},
		{"ok\n::error::a\r::error::b\r\n::error::c", "ok\n: :error::a\r: :error::b\r\n: :error::c"},
		{"\u00a0\u2003::error::a\n", "\u00a0\u2003: :error::a\n"},
		{"\u200b:\u00ad:error::a\n", "\u200b:\u00ad :error::a\n"},
		{"\x00::error::a\n", "\x00: :error::a\n"},
		{"std::vector<int> a::b\n", "std::vector<int> a::b\n"},
		{"a ::b::c\n", "a ::b::c\n"},
		{"#5 1.0 ##vso[task.setvariable variable=PATH]/evil\n", "#5 1.0 ##vso [task.setvariable variable=PATH]/evil\n"},
		{"##[group]a ##[error]b\n", "## [group]a ## [error]b\n"},
		{"###VSO[a]\n##v\u200bso[a]\n", "###VSO [a]\n##v\u200bso [a]\n"},
		{"##teamcity[buildStatus text='a']\n", "##teamcity [buildStatus text='a']\n"},
		{"## [a] #[b] ##-[c] ## vso[d]\n", "## [a] #[b] ##-[c] ## vso[d]\n"},
		{"##a#[b] ##a##[c]\n", "##a#[b] ##a## [c]\n"},
	} {
		for _, piece := range []int{len(test.text), 1, 2, 3} {
			var out bytes.Buffer
			log := NewLog(&out)
			for text := []byte(test.text); len(text) > 0; {
				n := min(piece, len(text))
				if wrote, err := log.Write(text[:n]); err != nil || wrote != n {
					t.Fatalf("Write = %d, %v", wrote, err)
				}
				text = text[n:]
			}
			if got := out.String(); got != test.want {
				t.Errorf("%q in pieces of %d = %q, want %q", test.text, piece, got, test.want)
			}
		}
	}
}

// A command begins a line, even where somebody has not ended theirs, and what
// they go on with cannot hide behind the line they think they are in.
func TestCommandsAndOtherOutputTakeTurns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := NewLog(&out)
	write := func(text string) {
		if _, err := log.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	command := func(line string) {
		if err := log.command([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	command("::one::")
	write("half a ")
	command("::two::\n")
	write("::line::\n")
	write("a:")
	command("::three::")
	write(":b::\n#")
	command("::four::")
	write("#[a]\n")
	want := "::one::\nhalf a \n::two::\n: :line::\na:\n::three::\n:b::\n#\n::four::\n#[a]\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if err := log.command([]byte("::a::\n::b::")); !errors.Is(err, errLines) {
		t.Errorf("two lines in a command: %v", err)
	}
}

func TestLogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	closed := errors.New("closed")
	log := NewLog(writerFunc(func([]byte) (int, error) { return 0, closed }))
	if _, err := log.Write([]byte("a")); !errors.Is(err, closed) {
		t.Errorf("Write: %v", err)
	}
	// None of these may panic, as go-githubactions does.
	for _, name := range []string{"github", "azure", "circleci", "none"} {
		d := New(name, Options{Log: log, Getenv: func(string) string { return "" }})
		d.Group("a")
		d.Annotate(Annotation{Severity: Error, Text: "a"})
		d.Mask("a secret")
		d.EndGroup()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Whatever others write, in whatever pieces and between whatever commands: the
// platforms obey the commands and nothing else.
func FuzzLog(f *testing.F) {
	f.Add("::error::a\n", "##vso[a]b\r::x::", uint8(3))
	f.Add("a:", ":b::c", uint8(1))
	f.Add("\u00ad::\x1b[0m::a::", "##v\x00so[", uint8(2))
	f.Fuzz(func(t *testing.T, first, second string, piece uint8) {
		var out bytes.Buffer
		log := NewLog(&out)
		for _, text := range []string{first, second} {
			for rest := []byte(text); len(rest) > 0; {
				n := min(max(1, int(piece)), len(rest))
				_, _ = log.Write(rest[:n])
				rest = rest[n:]
			}
			if err := log.command([]byte("::group::a")); err != nil {
				t.Fatal(err)
			}
		}
		// As a reader sees it that counts all but printable ASCII as nothing.
		seen := strings.Map(func(r rune) rune {
			if r == '\n' || r == '\r' || r >= ' ' && r <= '~' {
				return r
			}
			return -1
		}, out.String())
		for _, text := range []string{out.String(), seen} {
			commands, err := githubObeys(text)
			if err != nil || len(commands) != 2 {
				t.Errorf("GitHub obeys %v (%v) in %q", commands, err, text)
			}
			if commands, err := azureObeys(text); err != nil || len(commands) != 0 {
				t.Errorf("Azure obeys %v (%v) in %q", commands, err, text)
			}
		}
		// Nothing is lost.
		if got, want := strings.ReplaceAll(out.String(), " ", ""), first+second; len(got) < len(strings.ReplaceAll(want, " ", "")) {
			t.Errorf("%q became %q", want, got)
		}
	})
}
