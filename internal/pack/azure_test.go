package pack

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/vendorschema"
)

// fault is what testdata/azure-validator/validate.js finds.
type fault struct {
	File    string
	Line    int
	Message string
}

// azureFaults validates files with Microsoft's language service.
func azureFaults(t *testing.T, files ...string) []fault {
	t.Helper()
	schema := vendorschema.Path(t, vendorschema.AzurePipelines)
	npm, err := exec.LookPath("npm")
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal("npm is not installed, and CI is set")
	default:
		t.Skip("npm is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	validator := t.TempDir()
	if err := os.CopyFS(validator, os.DirFS("testdata/azure-validator")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = validator
	if output, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, output)
	}
	cmd := exec.CommandContext(ctx, "node", append([]string{"validate.js", schema}, files...)...)
	cmd.Dir = validator
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("validate.js: %v\n%s", err, output)
	}
	var faults []fault
	if err := json.Unmarshal(output, &faults); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return faults
}

func TestAzureSchema(t *testing.T) {
	t.Parallel()
	template := filepath.Join(vendorschema.Root(), "azure-pipelines", "build.yml")
	source, err := os.ReadFile(template)
	if err != nil {
		t.Fatal(err)
	}
	// A validator that accepts everything proves nothing.
	broken := filepath.Join(t.TempDir(), "broken.yml")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(source), "condition:", "conditon:", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	foundBroken := false
	for _, f := range azureFaults(t, template, filepath.Join(vendorschema.Root(), "azure-pipelines", "ci.yml"), broken) {
		if strings.Contains(f.Message, "^[-_A-Za-z0-9]*$") {
			continue // the name of a step, which for a template is an expression
		}
		if f.File == broken {
			foundBroken = true
			continue
		}
		t.Errorf("%s:%d: %s", f.File, f.Line, f.Message)
	}
	if !foundBroken {
		t.Error("the validator accepts conditon:")
	}
}

// azureTemplate is what the tests read of the template.
type azureTemplate struct {
	Parameters []struct {
		Name    string
		Default yaml.Node
	}
	Steps []struct {
		Bash, Condition string
		Env             map[string]string
	}
}

func readAzureTemplate(t *testing.T) azureTemplate {
	t.Helper()
	var template azureTemplate
	source := regexp.MustCompile(`(?m)^ *\$\{\{ insert \}\}: .*\n`).ReplaceAll(packedTemplate(t), nil)
	if err := yaml.Unmarshal(source, &template); err != nil {
		t.Fatal(err)
	}
	return template
}

// TestAzureTemplate checks what the validator does not: that each parameter
// that is used is declared, and the other way round.
func TestAzureTemplate(t *testing.T) {
	t.Parallel()
	template := readAzureTemplate(t)
	var declared, used []string
	for _, p := range template.Parameters {
		declared = append(declared, p.Name)
	}
	for _, match := range regexp.MustCompile(`parameters\.(\w+)`).FindAllStringSubmatch(string(packedTemplate(t)), -1) {
		used = append(used, match[1])
	}
	slices.Sort(declared)
	slices.Sort(used)
	if used := slices.Compact(used); !slices.Equal(declared, used) {
		t.Errorf("declared are %q, used are %q", declared, used)
	}
	if save := template.Steps[2]; save.Condition != "always()" {
		t.Errorf("the cache is saved on the condition %q", save.Condition)
	}
}

// azureStep runs a step's script as the agent does, with a recorded
// environment, and these parameters.
func azureStep(t *testing.T, j *job, index int, parameters map[string]string) (output string, status int) {
	t.Helper()
	template := readAzureTemplate(t)
	values := map[string]string{}
	for _, p := range template.Parameters {
		values[p.Name] = p.Default.Value
	}
	for name, value := range parameters {
		values[name] = value
	}
	step := template.Steps[index]
	var env []string
	for name, value := range step.Env {
		for parameter, given := range values {
			value = strings.ReplaceAll(value, "${{ parameters."+parameter+" }}", given)
		}
		env = append(env, name+"="+value)
	}
	return j.runScript(t, step.Bash, env)
}

// recorded reads an environment of package ci's tests.
func recorded(t *testing.T, name string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(vendorschema.Root(), "ci", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			env[name] = value
		}
	}
	return env
}

func newAzureJob(t *testing.T, name string) *job {
	t.Helper()
	env := recorded(t, name)
	env["CIRCLECI"], env["CIRCLE_BRANCH"], env["BASH_ENV"] = "", "", ""
	env["AGENT_TEMPDIRECTORY"] = t.TempDir()
	return newJob(t, env)
}

func TestAzureBuildScript(t *testing.T) {
	t.Parallel()
	j := newAzureJob(t, "azure/fork-github-pull-request.env")
	j.program(t, "")
	j.env = append(j.env, "NPM_TOKEN=$(NPM_TOKEN)", "OTHER=x")
	output, status := azureStep(t, j, 1, map[string]string{
		"image": "acme.azurecr.io/app:17", "push": "False", "defaultBranch": "main",
		"secrets": "id=npm,env=NPM_TOKEN\nid=other,env=OTHER", "buildArgs": "A=$(not run)",
	})
	if status != 0 {
		t.Fatalf("status %d\n%s", status, output)
	}
	// A fork is not given the secret variable: the macro stays as it is.
	want := []string{
		"--push=False", "--cache-save=always", "--default-branch=main", "--build-arg=A=$(not run)",
		"--secret=id=other,env=OTHER", "--", "acme.azurecr.io/app:17", ".",
	}
	if got := j.called(t); !slices.Equal(got, want) {
		t.Errorf("the program was called with\n%q, want\n%q", got, want)
	}
	if !strings.Contains(output, "warning: NPM_TOKEN is not set") {
		t.Errorf("the output is %s", output)
	}
}

// loggingCommand is a command to the agent.
// https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands
type loggingCommand struct {
	name       string
	properties map[string]string
	value      string
}

var loggingPattern = regexp.MustCompile(`##vso\[(\S+)(?: ([^\]]*))?\](.*)`)

// loggingCommands parses output as the agent does.
func loggingCommands(output string) []loggingCommand {
	unescape := strings.NewReplacer("%3B", ";", "%0D", "\r", "%0A", "\n", "%5D", "]", "%AZP25", "%").Replace
	var commands []loggingCommand
	for line := range strings.Lines(output) {
		match := loggingPattern.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if match == nil {
			continue
		}
		c := loggingCommand{match[1], map[string]string{}, unescape(match[3])}
		for field := range strings.SplitSeq(match[2], ";") {
			if name, value, ok := strings.Cut(field, "="); ok {
				c.properties[strings.ToLower(name)] = unescape(value)
			}
		}
		commands = append(commands, c)
	}
	return commands
}

// TestAzureBuild builds with the program itself and reads back what it and the
// script tell the agent.
func TestAzureBuild(t *testing.T) {
	env := testbed.Up(t, testbed.BuildKitd)
	engine := env.Engine(t, testbed.BuildKitd)
	j := newAzureJob(t, "azure/branch.env")
	j.env = append(j.env, "BUILDKIT_HOST="+engine.Address)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", j.bin+"/", "./cmd/docker-build-remote-cache")
	build.Dir = vendorschema.Root()
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	dockerfile := "FROM " + env.Base("busybox:latest") + "\nRUN echo '##vso[task.setvariable variable=owned]yes'\n"
	if err := os.WriteFile(filepath.Join(j.home, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	image := env.Repo(t) + ":17"
	output, status := azureStep(t, j, 1, map[string]string{"image": image, "push": "True"})
	if status != 0 {
		t.Fatalf("status %d\n%s", status, output)
	}
	outputs, others := map[string]string{}, map[string]string{}
	summary := ""
	for _, c := range loggingCommands(output) {
		switch {
		case c.name == "task.setvariable" && c.properties["isoutput"] == "true":
			outputs[c.properties["variable"]] = c.value
		case c.name == "task.setvariable":
			others[c.properties["variable"]] = c.value
		case c.name == "task.uploadsummary":
			summary = c.value
		}
	}
	if outputs["image"] != image || !strings.HasPrefix(outputs["digest"], "sha256:") || outputs["cache-hit-rate"] != "0.00" {
		t.Errorf("the outputs are %q\n%s", outputs, output)
	}
	if _, err := os.Stat(outputs["report"]); err != nil {
		t.Errorf("the report: %v", err)
	}
	if content, err := os.ReadFile(summary); err != nil || !strings.Contains(string(content), image) {
		t.Errorf("the summary %q is %q (%v)", summary, content, err)
	}
	state := others["DOCKER_BUILD_REMOTE_CACHE_STATE"]
	if len(others) != 1 || state == "" {
		t.Errorf("variables were set: %q\n%s", others, output)
	}

	// The agent makes the variable part of the next step's environment.
	j.env = append(j.env, "DOCKER_BUILD_REMOTE_CACHE_STATE="+state)
	if output, status := azureStep(t, j, 2, nil); status != 0 || !strings.Contains(output, "nothing to save: the build left nothing undone") {
		t.Errorf("save: status %d\n%s", status, output)
	}
}
