// Package docs_test keeps the documentation in step with the code.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// sources is the text of everything that says something to people.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "docs", "test", "testdata", "node_modules"}, name) {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, "_test.go") || !slices.Contains([]string{".go", ".js", ".sh"}, filepath.Ext(name)) {
			return nil
		}
		content, err := os.ReadFile(path)
		all.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

var (
	heading = regexp.MustCompile("(?m)^### (.*)$")
	quoted  = regexp.MustCompile("`([^`]+)`")
	// placeholder is what stands for something of the reader's.
	placeholder = regexp.MustCompile(`\.\.\.|"?\b[A-Z_]{4,}\b"?|\b(?:N|X|Y|ID|REF|URL)\b`)
)

// TestTroubleshootingQuotesTheCode: a message that is reworded in the code is
// reworded where people look it up.
func TestTroubleshootingQuotesTheCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("TROUBLESHOOTING.md")
	if err != nil {
		t.Fatal(err)
	}
	code := sources(t)
	// What looks like a placeholder, and what the code puts together.
	literal := strings.NewReplacer("(GITHUB_EVENT_PATH)", "", "HEAD is", "is", "CI is", "is",
		"skip saving", "saving", "docker-build-remote-cache", "NAME")
	entries := 0
	for _, match := range heading.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(match[1], "CircleCI:") {
			continue // Docker's own words
		}
		for _, message := range quoted.FindAllStringSubmatch(match[1], -1) {
			entries++
			for _, part := range placeholder.Split(literal.Replace(message[1]), -1) {
				for _, words := range strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(":`(),;", r) }) {
					words = strings.TrimSpace(words)
					if len(words) > 5 && !strings.Contains(code, words) {
						t.Errorf("%s: the code never says %q", match[0], words)
					}
				}
			}
		}
	}
	if entries < 30 {
		t.Errorf("only %d messages were found", entries)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)\)`)

func TestLinks(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(content), -1) {
			if _, err := os.Stat(match[1]); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

var example = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestExamples: what people copy is YAML, and uses inputs and parameters that
// exist.
func TestExamples(t *testing.T) {
	t.Parallel()
	known := map[string][]string{
		"github-actions.md": names(t, "../action.yml", "inputs"),
		"circleci.md":       slices.Concat(names(t, "../.circleci/orb/src/commands/build.yml", "parameters"), names(t, "../.circleci/orb/src/jobs/build.yml", "parameters")),
		"azure-devops.md":   names(t, "../azure-pipelines/src/build.yml", "parameters"),
	}
	// The keys that open a call of ours, and hold what it is given.
	calls := map[string]func(map[string]any) map[string]any{
		"github-actions.md": func(step map[string]any) map[string]any {
			if uses, _ := step["uses"].(string); !strings.HasPrefix(uses, "docker-build-remote-cache/") {
				return nil
			}
			return mapping(step["with"])
		},
		"circleci.md": func(step map[string]any) map[string]any {
			given := mapping(step["remote-cache/build"])
			for _, ofWorkflow := range []string{"context", "matrix", "name"} {
				delete(given, ofWorkflow)
			}
			return given
		},
		"azure-devops.md": func(step map[string]any) map[string]any {
			if template, _ := step["template"].(string); template == "" {
				return nil
			}
			return mapping(step["parameters"])
		},
	}
	for page, parameters := range known {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, match := range example.FindAllStringSubmatch(string(content), -1) {
			var document any
			if err := yaml.Unmarshal([]byte(match[1]), &document); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, match[1])
			}
			walk(document, func(step map[string]any) {
				for name := range calls[page](step) {
					found++
					if !slices.Contains(parameters, name) {
						t.Errorf("%s: there is no %s", page, name)
					}
				}
			})
		}
		if found < 5 {
			t.Errorf("%s: only %d parameters were found", page, found)
		}
	}
}

func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("*.md")
	if err != nil || len(found) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	return found
}

// names are the keys of a mapping, or the names in a list of parameters.
func names(t *testing.T, file, key string) []string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := yaml.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	var found []string
	for name := range mapping(document[key]) {
		found = append(found, name)
	}
	list, _ := document[key].([]any)
	for _, entry := range list {
		found = append(found, mapping(entry)["name"].(string))
	}
	return found
}

func mapping(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func walk(v any, visit func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(v)
		for _, child := range v {
			walk(child, visit)
		}
	case []any:
		for _, child := range v {
			walk(child, visit)
		}
	}
}
