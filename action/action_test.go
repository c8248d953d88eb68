// Package action_test proves the GitHub action: its JavaScript on Node's own
// test runner, its description against GitHub's schema and the program's
// options, and the whole of it in act, with a real engine and registry.
package action_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/vendorschema"
)

func TestJavaScript(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node(t), "--test", "test/")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// node is the path of Node, without which a developer's machine skips; CI has
// it.
func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatal("node is not installed")
	}
	t.Skip("node is not installed")
	return ""
}

func TestActionSchema(t *testing.T) {
	t.Parallel()
	schema := vendorschema.Load(t, vendorschema.GithubAction)
	source := readFile(t, "action.yml")
	if err := schema.Check(source); err != nil {
		t.Error(err)
	}
	// A schema that accepts everything proves nothing.
	broken := bytes.Replace(source, []byte("using: node24"), []byte("using: node9"), 1)
	if err := schema.Check(broken); err == nil {
		t.Error("the schema accepts using: node9")
	}
}

func TestWorkflowSchema(t *testing.T) {
	t.Parallel()
	schema := vendorschema.Load(t, vendorschema.GithubWorkflow)
	files, err := filepath.Glob(filepath.Join(vendorschema.Root(), ".github", "workflows", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	for _, file := range append(files, "testdata/project/.github/workflows/build.yml") {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Check(source); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// description is the part of action.yml that is compared with the program.
type description struct {
	Inputs  map[string]struct{ Required bool }
	Outputs map[string]any
	Runs    struct{ Main, Post string }
}

func readDescription(t *testing.T) description {
	t.Helper()
	var d description
	if err := yaml.Unmarshal(readFile(t, "action.yml"), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestActionRunsFilesThatAreThere(t *testing.T) {
	t.Parallel()
	d := readDescription(t)
	for _, file := range []string{d.Runs.Main, d.Runs.Post} {
		readFile(t, file)
	}
}

// flag is one line of the help text.
var flag = regexp.MustCompile(`^ +(?:-\w, )?--([a-z-]+)`)

// TestEveryOwnOptionIsAnInput keeps action.yml complete: an option of the
// cache that is added to the program is added there too.
func TestEveryOwnOptionIsAnInput(t *testing.T) {
	t.Parallel()
	program := buildProgram(t)
	help, err := exec.CommandContext(t.Context(), program, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(string(help), "\nOptions of the cache:")
	own, rest, found := strings.Cut(own, "\nOptions of docker build")
	if !found {
		t.Fatal("the help text has other headings")
	}
	inputs := readDescription(t).Inputs
	// The action decides on the state file; the others end before a build.
	without := []string{"state", "version", "help"}
	all := flags(own)
	if len(all) < 10 {
		t.Fatalf("only %q were found in the help text", all)
	}
	for _, name := range all {
		if _, ok := inputs[name]; !ok && !slices.Contains(without, name) {
			t.Errorf("--%s is no input of action.yml", name)
		}
	}
	// And the other way round: an input that the program does not know would
	// fail every build that uses it.
	known := append(all, flags(rest)...)
	for name := range inputs {
		if slices.Contains([]string{"binary", "context", "github-token", "image", "secret-envs", "secret-files"}, name) {
			continue // for the action itself
		}
		if !slices.Contains(known, name) && !slices.Contains(known, strings.TrimSuffix(name, "s")) {
			t.Errorf("input %s is no option of the program", name)
		}
	}
}

func flags(help string) []string {
	var names []string
	for line := range strings.Lines(help) {
		if match := flag.FindStringSubmatch(line); match != nil {
			names = append(names, match[1])
		}
	}
	return names
}

func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "docker-build-remote-cache")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/docker-build-remote-cache")
	cmd.Dir = vendorschema.Root()
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(vendorschema.Root(), name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
