package advice_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/advice"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden shows for each Dockerfile of the corpus the advice, and what
// following it automatically makes of its lines.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.Dockerfile")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".Dockerfile"), func(t *testing.T) {
			t.Parallel()
			f := parse(t, readFile(t, name))
			golden := strings.TrimSuffix(name, ".Dockerfile") + ".golden"
			got := show(t, f)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(readFile(t, golden), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func show(t *testing.T, f *stages.File) string {
	var b strings.Builder
	for _, found := range advice.Find(f, all(f)) {
		fmt.Fprintf(&b, "%s, line %d: %s\n", f.Stages[found.Stage].Target(), found.Line, found.Text())
	}
	auto := advice.Automatic(f, all(f))
	edited, err := f.Edited(auto.Edits)
	if err != nil {
		t.Fatal(err)
	}
	b.WriteString("\nautomatic:\n")
	before, after := strings.Split(string(f.Source), "\n"), strings.Split(string(edited.Source), "\n")
	for i, line := range after {
		if line != before[i] {
			fmt.Fprintf(&b, "%d: %s\n", i+1, strings.ReplaceAll(line, " --mount", "\n      --mount"))
		}
	}
	for _, s := range auto.Secrets {
		fmt.Fprintf(&b, "secret %s: %q\n", s.ID, s.Value)
	}
	for _, found := range auto.Left {
		fmt.Fprintf(&b, "left, line %d: %s\n", found.Line, found.Text())
	}
	return b.String()
}

// TestAdviceEndsWithIt follows the advice by hand: then there is none.
func TestAdviceEndsWithIt(t *testing.T) {
	t.Parallel()
	for _, run := range []string{
		"pip install x", "npm ci", "yarn", "pnpm install", "go build ./...", "cargo build", "mvn verify", "./gradlew build", "bundle install", "composer install", "poetry install",
		"apt-get update && apt-get install -y x",
	} {
		image := map[string]string{"bundle install": "ruby"}[run]
		if image == "" {
			image = "debian"
		}
		begin := "FROM " + image + "\nRUN rm -f /etc/apt/apt.conf.d/docker-clean\nRUN "
		f := parse(t, begin+run+"\n")
		found := advice.Find(f, []int{0})
		if len(found) != 1 {
			t.Errorf("%s: advice %v", run, found)
			continue
		}
		flags := ""
		for _, m := range found[0].Mounts {
			flags += m.Flag() + " "
		}
		f = parse(t, begin+flags+run+"\n")
		if again := advice.Find(f, []int{0}); len(again) > 0 {
			t.Errorf("%s: still advice: %s", run, again[0].Text())
		}
	}
}

func TestLargeFilesGetNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"FROM debian\n" + strings.Repeat("RUN npm ci\n", 2000),
		strings.Repeat("FROM debian\nRUN npm ci\n", 600),
	} {
		f := parse(t, text)
		if found := advice.Find(f, all(f)); len(found) > 0 {
			t.Errorf("%d findings", len(found))
		}
	}
}

func FuzzFind(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.Dockerfile")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := stages.Parse([]byte(text), stages.Options{})
		if err != nil {
			return
		}
		for _, found := range advice.Find(file, all(file)) {
			stage, index, ok := file.Find(found.Line)
			if !ok || stage != found.Stage || file.Stages[stage].Instructions[index].Kind != "RUN" {
				t.Fatalf("line %d is no RUN of stage %d", found.Line, found.Stage)
			}
			flags := ""
			for _, m := range found.Mounts {
				flags += m.Flag() + " "
			}
			if _, err := stages.Parse([]byte("FROM scratch\nRUN "+flags+"x\n"), stages.Options{}); err != nil {
				t.Fatalf("%q: %v", flags, err)
			}
		}
		if _, err := file.Edited(advice.Automatic(file, all(file)).Edits); err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Fatalf("%v", err)
		}
	})
}

func all(f *stages.File) []int {
	var indexes []int
	for i := range f.Stages {
		indexes = append(indexes, i)
	}
	return indexes
}

func parse(t *testing.T, text string) *stages.File {
	t.Helper()
	f, err := stages.Parse([]byte(text), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
