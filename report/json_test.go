package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

func schemaText(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText(t)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t *testing.T, text string) {
	t.Helper()
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := compile(t).Validate(instance); err != nil {
		t.Error(err)
	}
}

func TestZeroReportLacksOnlyAResult(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	r := report.Report{Result: report.Result{Status: report.OK}, Stages: []report.Stage{{Steps: []report.Step{{Line: 1}}}}}
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	validate(t, text.String())
	if r.Stages[0].Steps[0].Status != "" {
		t.Error("Write changed the caller's report")
	}
}

// A cache named with --cache-from has a level of its own.
func TestLevelOfAGivenCache(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	r := report.Report{Result: report.Result{Status: report.OK}, Lineages: []report.Lineage{{Level: "cache-from", Digest: digest("1")}}}
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	validate(t, text.String())
}

// TestSchemaRejects makes sure that the schema says something.
func TestSchemaRejects(t *testing.T) {
	t.Parallel()
	schema := compile(t)
	for name, change := range map[string]func(r *report.Report){
		"result status": func(r *report.Report) { r.Result.Status = report.Cached },
		"step status":   func(r *report.Report) { r.Stages[0].Steps[0].Status = report.OK },
		"level":         func(r *report.Report) { r.Stages[0].Imported.Level = "trunk" },
		"digest":        func(r *report.Report) { r.Result.Digest = "latest" },
		"line":          func(r *report.Report) { r.Stages[0].Steps[0].Line = 0 },
		"seconds":       func(r *report.Report) { r.Seconds = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := build(t, "all-cached")
			change(&r)
			var text strings.Builder
			if err := r.Write(&text); err != nil {
				t.Fatal(err)
			}
			instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text.String()))
			if err != nil {
				t.Fatal(err)
			}
			if schema.Validate(instance) == nil {
				t.Error("valid")
			}
		})
	}
}

// TestSchemaAndStructAgree walks both: the same fields, each described, and
// required exactly if the struct always writes it.
func TestSchemaAndStructAgree(t *testing.T) {
	t.Parallel()
	var schema map[string]any
	if err := json.Unmarshal(schemaText(t), &schema); err != nil {
		t.Fatal(err)
	}
	definitions := schema["$defs"].(map[string]any)
	resolve := func(node map[string]any) map[string]any {
		if ref, found := node["$ref"].(string); found {
			return definitions[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		return node
	}
	var walk func(path string, typ reflect.Type, node map[string]any)
	walk = func(path string, typ reflect.Type, node map[string]any) {
		node = resolve(node)
		switch typ.Kind() {
		case reflect.Pointer:
			walk(path, typ.Elem(), node["oneOf"].([]any)[1].(map[string]any))
		case reflect.Slice:
			walk(path+"[]", typ.Elem(), node["items"].(map[string]any))
		case reflect.Struct:
			properties := node["properties"].(map[string]any)
			var fields, required []string
			for i := range typ.NumField() {
				name, option, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
				fields = append(fields, name)
				if option != "omitempty" {
					required = append(required, name)
				}
				property, found := properties[name].(map[string]any)
				if !found {
					t.Errorf("%s.%s is not in the schema", path, name)
					continue
				}
				if property["description"] == nil && resolve(property)["description"] == nil {
					t.Errorf("%s.%s has no description", path, name)
				}
				walk(path+"."+name, typ.Field(i).Type, property)
			}
			for name := range properties {
				if !slices.Contains(fields, name) {
					t.Errorf("%s.%s is not in the struct", path, name)
				}
			}
			var inSchema []string
			for _, name := range node["required"].([]any) {
				inSchema = append(inSchema, name.(string))
			}
			if diff := cmp.Diff(required, inSchema); diff != "" {
				t.Errorf("%s: required fields (-struct +schema):\n%s", path, diff)
			}
		}
	}
	walk("", reflect.TypeFor[report.Report](), schema)
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "report.json")
	if err := os.WriteFile(path, []byte("of an earlier run"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := build(t, "failed")
	if err := want.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	validate(t, string(text))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := want.WriteFile(filepath.Join(dir, "missing", "report.json")); err == nil {
		t.Error("wrote into a directory that does not exist")
	}
}
