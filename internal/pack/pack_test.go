package pack

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/vendorschema"
)

var update = flag.Bool("update", false, "write the packed files")

func circleciFolder(elements ...string) string {
	return filepath.Join(append([]string{vendorschema.Root(), ".circleci"}, elements...)...)
}

func packed(t *testing.T) []byte {
	t.Helper()
	source, err := Orb(os.DirFS(circleciFolder("orb", "src")))
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func packedTemplate(t *testing.T) []byte {
	t.Helper()
	source, err := Template(os.DirFS(vendorschema.Root()), "azure-pipelines/src/build.yml")
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// TestPackedFilesAreCurrent keeps the files that pipelines use in step with
// their sources.
func TestPackedFilesAreCurrent(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]byte{
		".circleci/orb/orb.yml":     packed(t),
		"azure-pipelines/build.yml": packedTemplate(t),
	} {
		file := filepath.Join(vendorschema.Root(), name)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what go test ./internal/pack -update writes (%v)", name, err)
		}
	}
}

func TestPack(t *testing.T) {
	t.Parallel()
	src := fstest.MapFS{
		"@orb.yml":         {Data: []byte("version: 2.1\ndescription: d\n")},
		"commands/b.yml":   {Data: []byte("steps:\n  - run:\n      command: << include(scripts/x.sh) >>\n")},
		"commands/a.yml":   {Data: []byte("steps: [checkout] # kept\n")},
		"commands/skip.md": {Data: []byte("no")},
		"scripts/x.sh":     {Data: []byte("cat <<END\nx\nEND\n")},
	}
	got, err := Orb(src)
	if err != nil {
		t.Fatal(err)
	}
	const want = `version: 2.1
description: d
commands:
  a:
    steps: [checkout] # kept
  b:
    steps:
      - run:
          command: |
            cat \<<END
            x
            END
`
	if string(got) != want {
		t.Errorf("packed:\n%s\nwant:\n%s", got, want)
	}
}

func TestPackFaults(t *testing.T) {
	t.Parallel()
	const root = "version: 2.1\n"
	for name, c := range map[string]struct {
		src     fstest.MapFS
		message string
	}{
		"no root":         {fstest.MapFS{}, "@orb.yml"},
		"no mapping":      {fstest.MapFS{"@orb.yml": {Data: []byte("- a\n")}}, "not a mapping"},
		"broken":          {fstest.MapFS{"@orb.yml": {Data: []byte(root)}, "jobs/x.yml": {Data: []byte("a: [")}}, "parse jobs/x.yml"},
		"missing include": {fstest.MapFS{"@orb.yml": {Data: []byte(root)}, "jobs/x.yml": {Data: []byte("a: <<include(scripts/no.sh)>>")}}, "scripts/no.sh"},
		"outside":         {fstest.MapFS{"@orb.yml": {Data: []byte(root)}, "jobs/x.yml": {Data: []byte("a: <<include(../etc/passwd)>>")}}, "include"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Orb(c.src); err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("the error is %v, want one with %q", err, c.message)
			}
		})
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	schema := vendorschema.Load(t, vendorschema.CircleCI)
	config, err := os.ReadFile(circleciFolder("config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string][]byte{"the packed orb": packed(t), "config.yml": config} {
		if err := schema.Check(source); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A schema that accepts everything proves nothing.
	broken := bytes.Replace(packed(t), []byte("when: always"), []byte("when: sometimes"), 1)
	if err := schema.Check(broken); err == nil {
		t.Error("the schema accepts when: sometimes")
	}
}
