// Package vendorschema checks files that other people's programs read (an
// action, a CircleCI configuration, Azure's templates) against the JSON
// Schemas that these people publish.
//
// The schemas are theirs and no part of this repository. They are looked for
// in ../shared/data/schemas beside it; where they are absent, a test that
// needs one is skipped by name.
package vendorschema

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/dlclark/regexp2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// The schemas.
const (
	GithubAction   = "github-action.json"
	GithubWorkflow = "github-workflow.json"
	CircleCI       = "circleci.json"
	AzurePipelines = "azure-pipelines.json"
)

// Root is the top folder of this repository.
func Root() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..")
}

// Path is where a schema is. The test is skipped if there is none.
func Path(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(Root(), "..", "shared", "data", "schemas", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the schema %s is not beside this repository", name)
	}
	return path
}

// Schema is a compiled schema.
type Schema struct{ compiled *jsonschema.Schema }

// Load compiles a schema. The test is skipped if there is none.
func Load(t testing.TB, name string) *Schema {
	t.Helper()
	file, err := os.Open(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	if name == CircleCI {
		// It lists '2.1' and 2.1, which its own metaschema takes for a repetition.
		version := document.(map[string]any)["properties"].(map[string]any)["version"].(map[string]any)
		delete(version, "enum")
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseRegexpEngine(compileRegexp)
	const url = "file:///schema.json"
	if err := compiler.AddResource(url, document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile(url)
	if err != nil {
		t.Fatal(err)
	}
	return &Schema{compiled}
}

// Check validates a YAML file.
func (s *Schema) Check(source []byte) error {
	var document any
	if err := yaml.Unmarshal(source, &document); err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	return s.compiled.Validate(document)
}

// pattern is a regular expression with the lookaheads that the schemas use
// and Go's own lack.
type pattern struct{ *regexp2.Regexp }

func (p pattern) MatchString(s string) bool {
	matches, err := p.Regexp.MatchString(s)
	return err == nil && matches
}

func compileRegexp(s string) (jsonschema.Regexp, error) {
	compiled, err := regexp2.Compile(s, regexp2.ECMAScript)
	if err != nil {
		return nil, err
	}
	return pattern{compiled}, nil
}
