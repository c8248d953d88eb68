//go:build bench

package bench

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	bkclient "github.com/moby/buildkit/client"
)

var trials = flag.Int("trials", 20, "how often each of several caches is read")

// job is one build of a story: what it is given, and what it leaves.
type job struct {
	target string // "" for the last stage
	scope  string // of a matrix, "" for none
	branch string
	files  map[string]string
}

// story is a history of builds that leaves several caches, and a build all of
// whose RUN steps are in one of them.
type story struct {
	name       string
	dockerfile string
	// alone: each of the jobs before builds everything itself.
	alone  bool
	before []job
	again  job
	steps  int // RUN steps of again
}

var stories = []story{
	{
		name: "a rebased branch: dependencies of master, program of the branch",
		dockerfile: `FROM BASE AS deps
COPY deps /
RUN head -c 9999 /dev/urandom >/built
FROM BASE AS program
COPY program /
RUN head -c 9999 /dev/urandom >/built
FROM BASE
COPY --from=deps /built /deps
COPY --from=program /built /program
`,
		before: []job{
			{branch: "master", files: map[string]string{"deps": "2", "program": "1"}},
			{branch: "feature", files: map[string]string{"deps": "1", "program": "2"}},
		},
		again: job{branch: "feature", files: map[string]string{"deps": "2", "program": "2"}},
		steps: 2,
	},
	{
		name:       "five stages, each saved by a job of its own",
		dockerfile: chain(5),
		before: []job{
			{branch: "master", target: "stage-1"}, {branch: "master", target: "stage-2"}, {branch: "master", target: "stage-3"},
			{branch: "master", target: "stage-4"}, {branch: "master", target: "stage-5"},
		},
		again: job{branch: "master", target: "stage-5"},
		steps: 10,
	},
	{
		name: "sibling jobs, which built their dependencies at the same time",
		dockerfile: `FROM BASE AS deps
COPY deps /
RUN head -c 9999 /dev/urandom >/built
RUN sha256sum /built >/sum
FROM deps AS job-1
COPY program /
RUN sha256sum /program /sum >/1
RUN sha256sum /1 >/2
FROM deps AS job-2
COPY program /
RUN sha256sum /sum /program >/1
RUN sha256sum /1 >/2
`,
		alone: true,
		before: []job{
			{branch: "master", scope: "1", target: "job-1", files: sources},
			{branch: "master", scope: "2", target: "job-2", files: sources},
		},
		again: job{branch: "master", scope: "1", target: "job-1", files: sources},
		steps: 4,
	},
}

var sources = map[string]string{"deps": "1", "program": "1"}

func chain(length int) string {
	var text strings.Builder
	base := "BASE"
	for i := range length {
		fmt.Fprintf(&text, "FROM %s AS stage-%d\nRUN head -c 9999 /dev/urandom >/built-%[2]d\nRUN sha256sum /built-%[2]d >/sum-%[2]d\n", base, i+1)
		base = fmt.Sprintf("stage-%d", i+1)
	}
	return text.String()
}

// ref is where buildx keeps the cache of a job.
func (j job) ref(repository string) string {
	return "type=registry,ref=" + repository + ":" + strings.Join([]string{"cache", j.branch, j.scope, j.target}, "-")
}

// TestHits counts the steps that are run again although a cache holds them,
// where several caches are read: by this tool, and by buildx.
func TestHits(t *testing.T) {
	env := testbed.Up(t, testbed.BuildKitd, testbed.Buildx)
	b := &bench{env: env, environ: env.Environ(), directory: *keep, meter: newMeter(&url.URL{Scheme: "http", Host: env.Registry})}
	if b.directory == "" {
		b.directory = t.TempDir()
	}
	own, other := env.Engine(t, testbed.BuildKitd), env.Engine(t, testbed.Buildx)
	b.environ = append(b.environ, "BUILDKIT_HOST="+own.Address)
	tool := compile(t, b.directory)
	var w strings.Builder
	fmt.Fprintf(&w, "%d trials each, every one on an empty engine; RUN steps that ran again:\n\n", *trials)
	fmt.Fprint(&w, "| story | RUN steps read | buildx, several --cache-from | this tool |\n|---|---:|---:|---:|\n")
	for number, s := range stories {
		repository := fmt.Sprintf("%s/bench/hits-%d-%s", env.Registry, number, stamp)
		missed := map[string]int{}
		own.Fresh(t)
		other.Fresh(t)
		for i, j := range s.before {
			var options []string
			if s.alone {
				own.Fresh(t)
				other.Fresh(t)
				options = []string{"--no-cache"}
			}
			b.toolRan(t, tool, repository, s, j, i, options...)
			b.buildxRan(t, repository, s, j, append(options, "--cache-to", j.ref(repository)+",mode=max"))
		}
		var read []string
		for _, j := range s.before {
			read = append(read, "--cache-from", j.ref(repository))
		}
		for range *trials {
			own.Fresh(t)
			missed[thisTool] += b.toolRan(t, tool, repository, s, s.again, len(s.before), "--push=false", "--cache-save", "never")
			other.Fresh(t)
			missed[buildx] += b.buildxRan(t, repository, s, s.again, read)
		}
		fmt.Fprintf(&w, "| %s | %d | %d | %d |\n", s.name, s.steps**trials, missed[buildx], missed[thisTool])
	}
	publish(t, "hits", w.String(), true)
}

// toolRan lets this tool do a job and returns how many RUN steps ran.
func (b *bench) toolRan(t *testing.T, tool, repository string, s story, j job, number int, options ...string) int {
	report := filepath.Join(b.directory, "hits.json")
	options = append(options, "--branch", j.branch, "--default-branch", "master", "--report", report, "--cache-scope", j.scope)
	if j.target != "" {
		options = append(options, "--target", j.target)
	}
	command := append([]string{fmt.Sprintf("%s:commit-%d", repository, number)}, options...)
	b.run(t, "hits-tool", false, exec.Command(tool, append(command, b.files(t, s, j))...))
	var told struct {
		Stages []struct {
			Steps []struct{ Instruction, Status string }
		}
	}
	text, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(text, &told)
	}
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, stage := range told.Stages {
		for _, step := range stage.Steps {
			if strings.HasPrefix(step.Instruction, "RUN") && step.Status == "ran" {
				ran++
			}
		}
	}
	return ran
}

// buildxRan lets buildx do a job and returns how many RUN steps ran.
func (b *bench) buildxRan(t *testing.T, repository string, s story, j job, options []string) int {
	command := append([]string{"buildx", "build", "--builder", "testbed", "--progress", "rawjson", "--output", "type=cacheonly"}, options...)
	if j.target != "" {
		command = append(command, "--target", j.target)
	}
	b.run(t, "hits-buildx", false, exec.Command("docker", append(command, b.files(t, s, j))...))
	log, err := os.Open(filepath.Join(b.directory, "hits-buildx.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// A hit stays one: its layers may be pulled by a later event.
	cached, run := map[string]bool{}, map[string]bool{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var status bkclient.SolveStatus
		if json.Unmarshal(lines.Bytes(), &status) != nil {
			continue // what buildx says besides
		}
		for _, v := range status.Vertexes {
			if strings.Contains(v.Name, "] RUN ") {
				cached[v.Name] = cached[v.Name] || v.Cached
				run[v.Name] = run[v.Name] || v.Started != nil
			}
		}
	}
	if err := lines.Err(); err != nil || len(run) == 0 {
		t.Fatalf("%s: no RUN step in %s, %v", s.name, log.Name(), err)
	}
	ran := 0
	for name := range run {
		if !cached[name] {
			ran++
		}
	}
	return ran
}

// files is the build context of a job.
func (b *bench) files(t *testing.T, s story, j job) string {
	dir := t.TempDir()
	files := map[string]string{"Dockerfile": strings.ReplaceAll(s.dockerfile, "BASE", b.env.Base("busybox:latest"))}
	for name, content := range j.files {
		files[name] = content
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
