package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestHelpText(t *testing.T) {
	got := helpText()
	golden := filepath.Join("testdata", "help.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("help text differs (-update rewrites it):\n%s", diff)
	}
	for i, line := range strings.Split(got, "\n") {
		if n := utf8.RuneCountInString(line); n > helpWidth {
			t.Errorf("line %d has %d columns: %q", i+1, n, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("line %d ends in a space", i+1)
		}
	}
}

// Every option that is not hidden is explained, and every variable listed.
func TestHelpTextIsComplete(t *testing.T) {
	got := helpText()
	p := newParser(noEnv)
	for _, o := range append(p.ownOptions(), p.dockerOptions()...) {
		if o.help == "" {
			t.Errorf("--%s has no help", o.name)
		}
		if listed := strings.Contains(got, "--"+o.name+" "); listed == o.hidden {
			t.Errorf("--%s is in the help text: %t", o.name, listed)
		}
		if o.env != "" && !strings.Contains(got, o.env+" ") {
			t.Errorf("%s is not in the help text", o.env)
		}
	}
}

func noEnv(string) (string, bool) { return "", false }
