package layering

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/docker-build-remote-cache/docker-build-remote-cache"

// mayImport is the one direction in which packages know each other: from the
// command down to those that know nothing of the rest. A new package takes its
// place here.
var mayImport = map[string][]string{
	"cmd/docker-build-remote-cache": {"advice", "cache", "cachehost", "ci", "ci/dialect", "credential", "engine", "mounts", "proxies", "registry", "report", "stages"},

	"engine": {"cache/merge", "stages"},
	"cache":  {"cache/merge", "mounts", "registry", "stages"},

	"proxies": {"shellcalls", "stages"},

	"cache/merge": nil,
	"cachehost":   nil,
	"ci":          nil,
	"ci/dialect":  nil,
	"credential":  nil,
	"mounts":      nil,
	"registry":    nil,
	"report":      nil,
	"shellcalls":  nil,
	"stages":      nil,
	"advice":      {"shellcalls", "stages"},

	"bench": nil, // runs the command as people do

	"internal/pack":  nil, // the CircleCI orb and the Azure template
	"packaging/sbom": nil, // for releases

	// For tests alone.
	"internal/testbed":                 nil,
	"internal/vendorschema":            nil,
	"cache/merge/conformance":          {"cache/merge", "cache/merge/internal/lineagetest"},
	"cache/merge/internal/lineagetest": {"cache/merge"},
}

// forTests are packages that only tests may import.
var forTests = []string{"internal/testbed", "internal/vendorschema", "cache/merge/internal/lineagetest"}

// ownsProcess tells whether a package may read the environment and end the
// process. All others are given what they need and return errors.
func ownsProcess(pkg string) bool {
	return strings.HasPrefix(pkg, "cmd/") || pkg == "internal/testbed" || pkg == "packaging/sbom"
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	for file, syntax := range sources(t) {
		pkg, test := path.Dir(file), strings.HasSuffix(file, "_test.go")
		allowed, known := mayImport[pkg]
		if !known && !test {
			t.Errorf("%s: package %s has no place in mayImport yet", file, pkg)
			continue
		}
		for _, spec := range syntax.Imports {
			imported, ours := strings.CutPrefix(importPath(t, spec), module+"/")
			_, placed := mayImport[imported]
			switch {
			case !ours, slices.Contains(allowed, imported):
			case test && (imported == pkg || slices.Contains(forTests, imported)):
			case test && !known && placed:
				// End-to-end tests stand above everything.
			default:
				t.Errorf("%s: %s may not import %s", file, pkg, imported)
			}
		}
	}
}

func TestOnlyTheCommandOwnsTheProcess(t *testing.T) {
	t.Parallel()
	forbidden := map[string][]string{
		"os":  {"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv", "Exit"},
		"log": {"Fatal", "Fatalf", "Fatalln"},
	}
	for file, syntax := range sources(t) {
		if strings.HasSuffix(file, "_test.go") || ownsProcess(path.Dir(file)) {
			continue
		}
		names := map[string]string{} // by which the file knows the packages
		for _, spec := range syntax.Imports {
			imported := importPath(t, spec)
			if names[imported] = imported; spec.Name != nil {
				names[imported] = spec.Name.Name
			}
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			on, ok := selector.X.(*ast.Ident)
			for imported, functions := range forbidden {
				if ok && on.Name == names[imported] && slices.Contains(functions, selector.Sel.Name) {
					t.Errorf("%s: %s.%s belongs in cmd/", file, imported, selector.Sel.Name)
				}
			}
			return true
		})
	}
}

func importPath(t *testing.T, spec *ast.ImportSpec) string {
	t.Helper()
	imported, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		t.Fatal(err)
	}
	return imported
}

// sources are the Go files of this module by their path.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if file != "." && (err == nil || entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(file) == ".go" && path.Dir(file) != "." {
			files[file], err = parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go file was found")
	}
	return files
}
