package dialect

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// azure speaks the logging commands of Azure Pipelines.
// https://learn.microsoft.com/en-us/azure/devops/pipelines/scripts/logging-commands
type azure struct{ Options }

// The escapes of the agent (azure-pipelines-agent, CommandStringConvertor).
var (
	azureValue    = strings.NewReplacer("%", "%AZP25", "\r", "%0D", "\n", "%0A")
	azureProperty = strings.NewReplacer("%", "%AZP25", "\r", "%0D", "\n", "%0A", "]", "%5D", ";", "%3B")
)

// property is one of a command's, left out where its value is empty.
type property struct{ name, value string }

func (a azure) command(name string, properties []property, value string) error {
	var b strings.Builder
	b.WriteString("##vso[" + name)
	separator := " "
	for _, p := range properties {
		if p.value != "" {
			b.WriteString(separator + p.name + "=" + azureProperty.Replace(p.value))
			separator = ";"
		}
	}
	b.WriteString("]" + azureValue.Replace(value))
	return a.Log.command([]byte(b.String()))
}

func (a azure) Group(title string) { _ = a.Log.command([]byte("##[group]" + line(title))) }
func (a azure) EndGroup()          { _ = a.Log.command([]byte("##[endgroup]")) }

func (a azure) Mask(secret string) {
	for _, mask := range masks(secret) {
		_ = a.command("task.setsecret", nil, mask)
	}
}

func (a azure) Annotate(annotation Annotation) {
	properties := []property{{"type", string(annotation.Severity)}}
	if annotation.File != "" {
		root := a.Getenv("BUILD_SOURCESDIRECTORY")
		properties = append(properties, property{"sourcepath", line(relativeTo(root, annotation.File))})
		if annotation.Line > 0 {
			properties = append(properties, property{"linenumber", strconv.Itoa(annotation.Line)})
		}
	}
	_ = a.command("task.logissue", properties, clean(annotation.Text))
}

// Output sets a variable that later steps and jobs read as STEP.NAME.
func (a azure) Output(name, value string) error {
	if err := a.command("task.setvariable", []property{{"variable", name}, {"isOutput", "true"}}, value); err != nil {
		return fmt.Errorf("tell Azure: %w", err)
	}
	return nil
}

// Summary leaves the file where the agent finds it: it uploads it after the
// step, and clears the directory after the job.
func (a azure) Summary(markdown string) error {
	directory, err := os.MkdirTemp(a.Getenv("AGENT_TEMPDIRECTORY"), "summary-")
	if err != nil {
		return fmt.Errorf("tell Azure: %w", err)
	}
	// The name of the file is the summary's title.
	file := filepath.Join(directory, "docker-build-remote-cache.md")
	if err := os.WriteFile(file, []byte(markdown), 0o644); err != nil {
		return fmt.Errorf("tell Azure: %w", err)
	}
	if err := a.command("task.uploadsummary", nil, file); err != nil {
		return fmt.Errorf("tell Azure: %w", err)
	}
	return nil
}
