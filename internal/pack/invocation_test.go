package pack

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// parsedOrb is what the tests read of the packed orb.
type parsedOrb struct {
	Commands  map[string]element
	Jobs      map[string]element
	Executors map[string]element
	Examples  map[string]struct {
		Description string
		Usage       struct {
			Jobs      map[string]element
			Workflows map[string]struct{ Jobs []yaml.Node }
		}
	}
}

type element struct {
	Description string
	Parameters  map[string]parameter
	Steps       []yaml.Node
	Executor    yaml.Node
	Machine     yaml.Node
	Docker      yaml.Node
}

type parameter struct {
	Description string
	Type        string
	Enum        []string
	Default     yaml.Node
}

func parseOrb(t *testing.T) parsedOrb {
	t.Helper()
	var o parsedOrb
	if err := yaml.Unmarshal(packed(t), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// builtIn are the steps of CircleCI itself that the orb uses.
var builtIn = []string{"checkout", "run", "setup_remote_docker", "store_artifacts", "when", "steps"}

var reference = regexp.MustCompile(`<<\s*parameters\.(\w+)\s*>>`)

// TestInvocations checks what the schema does not: that commands and
// parameters that are used exist, and that those that must be given are.
func TestInvocations(t *testing.T) {
	t.Parallel()
	o := parseOrb(t)
	for kind, elements := range map[string]map[string]element{"command": o.Commands, "job": o.Jobs, "executor": o.Executors} {
		for name, e := range elements {
			for _, fault := range o.faults(e, "") {
				t.Errorf("%s %s: %s", kind, name, fault)
			}
		}
	}
	for name, example := range o.Examples {
		if example.Description == "" {
			t.Errorf("example %s is not described", name)
		}
		for job, e := range example.Usage.Jobs {
			for _, fault := range o.stepFaults(e.Steps, "remote-cache/") {
				t.Errorf("example %s, job %s: %s", name, job, fault)
			}
		}
		for _, workflow := range example.Usage.Workflows {
			for _, node := range workflow.Jobs {
				job, arguments := invocation(node)
				called, ours := strings.CutPrefix(job, "remote-cache/")
				if !ours {
					continue
				}
				for _, ofWorkflow := range []string{"context", "filters", "matrix", "name", "requires"} {
					delete(arguments, ofWorkflow)
				}
				for _, fault := range argumentFaults(o.Jobs, called, arguments) {
					t.Errorf("example %s: %s", name, fault)
				}
			}
		}
	}
}

// TestInvocationFaults proves that the checks above find what they look for.
func TestInvocationFaults(t *testing.T) {
	t.Parallel()
	const source = `
commands:
  called:
    description: d
    parameters:
      needed: {type: string, description: d}
    steps:
      - run: echo << parameters.needed >>
jobs:
  wrong:
    parameters:
      unused: {type: string, description: d}
    steps:
      - missing
      - called
      - called: {needed: a, more: b}
      - run: echo << parameters.undeclared >>
`
	var o parsedOrb
	if err := yaml.Unmarshal([]byte(source), &o); err != nil {
		t.Fatal(err)
	}
	got := o.faults(o.Jobs["wrong"], "")
	want := []string{
		"has no description",
		"parameter undeclared is not declared",
		"parameter unused is not used",
		"there is no missing",
		"called needs needed",
		"called has no parameter more",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the faults are %q, want %q", got, want)
	}
	if faults := o.faults(o.Commands["called"], ""); len(faults) > 0 {
		t.Errorf("the faults are %q, want none", faults)
	}
}

func (o parsedOrb) faults(e element, prefix string) []string {
	var faults []string
	if e.Description == "" {
		faults = append(faults, "has no description")
	}
	var used []string
	for _, part := range append([]yaml.Node{e.Executor, e.Docker, e.Machine}, e.Steps...) {
		used = append(used, references(&part)...)
	}
	for _, name := range used {
		if _, ok := e.Parameters[name]; !ok {
			faults = append(faults, "parameter "+name+" is not declared")
		}
	}
	for name, p := range e.Parameters {
		if !slices.Contains(used, name) {
			faults = append(faults, "parameter "+name+" is not used")
		}
		if p.Description == "" {
			faults = append(faults, "parameter "+name+" is not described")
		}
	}
	return append(faults, o.stepFaults(e.Steps, prefix)...)
}

// references are the names of the parameters that a part uses.
func references(node *yaml.Node) []string {
	var names []string
	for _, match := range reference.FindAllStringSubmatch(node.Value, -1) {
		names = append(names, match[1])
	}
	for _, child := range node.Content {
		names = append(names, references(child)...)
	}
	return names
}

// stepFaults checks steps that call the orb's commands by prefix and name.
func (o parsedOrb) stepFaults(steps []yaml.Node, prefix string) []string {
	var faults []string
	for _, node := range steps {
		name, arguments := invocation(node)
		if name == "when" {
			var body struct{ Steps []yaml.Node }
			if err := node.Content[1].Decode(&body); err != nil {
				faults = append(faults, err.Error())
			}
			faults = append(faults, o.stepFaults(body.Steps, prefix)...)
		}
		if slices.Contains(builtIn, name) {
			continue
		}
		faults = append(faults, argumentFaults(o.Commands, strings.TrimPrefix(name, prefix), arguments)...)
	}
	return faults
}

func argumentFaults(elements map[string]element, name string, arguments map[string]any) []string {
	called, ok := elements[name]
	if !ok {
		return []string{"there is no " + name}
	}
	var faults []string
	for needed, p := range called.Parameters {
		if _, given := arguments[needed]; !given && p.Default.IsZero() {
			faults = append(faults, fmt.Sprintf("%s needs %s", name, needed))
		}
	}
	for given := range arguments {
		if _, ok := called.Parameters[given]; !ok {
			faults = append(faults, fmt.Sprintf("%s has no parameter %s", name, given))
		}
	}
	return faults
}

// invocation is a step's or a workflow job's name and what it is given.
func invocation(node yaml.Node) (name string, arguments map[string]any) {
	if node.Kind == yaml.ScalarNode {
		return node.Value, nil
	}
	name = node.Content[0].Value
	_ = node.Content[1].Decode(&arguments) // nil for what is no mapping
	return name, arguments
}
