package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){program: main})
}

// TestScripts runs the command as people do, without an engine or a registry.
// A script holds its Dockerfile and what the command has to say; -update
// rewrites the latter. Scripts start in an empty environment.
func TestScripts(t *testing.T) {
	t.Parallel()
	recorded, err := filepath.Abs(filepath.Join("..", "..", "ci", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			command, err := exec.LookPath(program)
			if err != nil {
				return err
			}
			// Or every process would wait a second for races at its end.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			// Everything else, such as git and docker, is elsewhere.
			e.Setenv("COMMAND_DIR", filepath.Dir(command))
			for _, who := range []string{"AUTHOR", "COMMITTER"} {
				e.Setenv("GIT_"+who+"_NAME", "test")
				e.Setenv("GIT_"+who+"_EMAIL", "test@example.com")
			}
			// A checkout around the temporary directory is not the script's.
			e.Setenv("GIT_CEILING_DIRECTORIES", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": scriptExits,
			"ci":    func(ts *testscript.TestScript, _ bool, args []string) { scriptCI(ts, recorded, args) },
		},
		UpdateScripts:       *update,
		RequireExplicitExec: true,
	})
}

// exits STATUS COMMAND [ARG...] runs a command that ends with this status.
func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// ci PLATFORM/CASE sets the variables that a CI platform sets, as recorded for
// package ci.
func scriptCI(ts *testscript.TestScript, recorded string, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: ci PLATFORM/CASE")
	}
	file := filepath.Join(recorded, filepath.FromSlash(args[0])+".env")
	text, err := os.ReadFile(file)
	ts.Check(err)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if name == "GITHUB_EVENT_PATH" {
			value = filepath.Join(filepath.Dir(file), value)
		}
		ts.Setenv(name, value)
	}
}
