package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// plain is docker buildx build, given the caches by hand as its documentation
// says: each job writes one, and reads all with --cache-from.
type plain struct {
	env    *testbed.Env
	engine *testbed.Engine
	dir    string
	repo   string
}

func (p *plain) write(b *testing.B, name, content string) {
	b.Helper()
	content = strings.ReplaceAll(content, "BASE", p.env.Base("busybox:latest"))
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
}

// build builds on a new runner from some caches, writes one if it is named,
// and returns which steps ran.
func (p *plain) build(b *testing.B, to string, from []string, options ...string) []string {
	b.Helper()
	p.engine.Fresh(b)
	args := []string{"buildx", "build", "--builder", p.engine.Address, "--progress", "rawjson", "--provenance", "false"}
	for _, tag := range from {
		args = append(args, "--cache-from", "type=registry,ref="+p.repo+":"+tag)
	}
	if to != "" {
		args = append(args, "--cache-to", "type=registry,mode=max,ref="+p.repo+":"+to)
	}
	cmd := exec.CommandContext(b.Context(), "docker", append(append(args, options...), p.dir)...)
	cmd.Env = p.env.Environ()
	for _, variable := range cmd.Env {
		if path, ok := strings.CutPrefix(variable, "PATH="); ok {
			for dir := range strings.SplitSeq(path, ":") {
				if found, err := exec.LookPath(dir + "/docker"); err == nil {
					cmd.Path, cmd.Err = found, nil
					break
				}
			}
		}
	}
	var stdout, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &progress
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v\n%s", cmd, err, progress.String())
	}
	return ran(b, progress.Bytes())
}

// ran lists the steps that were executed, by BuildKit's own progress.
func ran(b *testing.B, progress []byte) []string {
	b.Helper()
	type vertex struct {
		Digest, Name string
		Cached       bool
		Completed    *string
	}
	cached := map[string]bool{}
	var names []string
	lines := bufio.NewScanner(bytes.NewReader(progress))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var status struct{ Vertexes []vertex }
		if json.Unmarshal(lines.Bytes(), &status) != nil {
			continue
		}
		for _, v := range status.Vertexes {
			step := strings.HasPrefix(v.Name, "[") && (strings.Contains(v.Name, "] RUN ") || strings.Contains(v.Name, "] COPY "))
			if !step {
				continue
			}
			if _, seen := cached[v.Name]; !seen {
				names = append(names, v.Name)
			}
			cached[v.Name] = cached[v.Name] || v.Cached
		}
	}
	var ran []string
	for _, name := range names {
		if !cached[name] {
			ran = append(ran, name)
		}
	}
	return ran
}

// except leaves out the steps with a text in their name.
func except(steps []string, text string) []string {
	return slices.DeleteFunc(steps, func(step string) bool { return strings.Contains(step, text) })
}

// What docker buildx loses in the stories of merge_test.go, in which this
// tool loses nothing: steps that ran although one of the caches has them.
//
//	go test ./e2e -run ^$ -bench PlainBuildx -benchtime 20x
func BenchmarkPlainBuildx(b *testing.B) {
	stories := []struct {
		name string
		tell func(b *testing.B, p *plain) (lost []string)
	}{
		{"rebase", func(b *testing.B, p *plain) []string {
			build := func(to, deps, app string, from ...string) []string {
				p.write(b, "Dockerfile", independent)
				p.write(b, "deps.txt", deps)
				p.write(b, "app.txt", app)
				return p.build(b, to, from)
			}
			build("master", "1", "1")
			build("feat", "1", "2", "master")
			build("master", "2", "1", "master")
			return except(build("", "2", "2", "feat", "master"), "COPY --from=app") // which nobody ever built on these
		}},
		{"siblings", func(b *testing.B, p *plain) []string {
			p.write(b, "Dockerfile", siblings)
			p.write(b, "deps.txt", "deps")
			var lost []string
			p.build(b, "job1", nil, "--target", "test1")
			p.build(b, "job2", nil, "--target", "test2")
			for _, target := range []string{"test1", "test2"} {
				lost = append(lost, p.build(b, "", []string{"job1", "job2"}, "--target", target)...)
			}
			return lost
		}},
		{"matrix", func(b *testing.B, p *plain) []string {
			p.write(b, "Dockerfile", matrix)
			p.write(b, "deps.txt", "deps")
			jobs := []string{"a", "b", "c", "d"}
			var lost []string
			for _, job := range jobs {
				p.build(b, job, nil, "--build-arg", "JOB="+job)
			}
			for _, job := range jobs {
				lost = append(lost, p.build(b, "", jobs, "--build-arg", "JOB="+job)...)
			}
			return lost
		}},
		{"five-stages", func(b *testing.B, p *plain) []string {
			p.write(b, "Dockerfile", fiveStages())
			p.write(b, "deps.txt", "deps")
			var caches []string
			for i := range 5 {
				stage := fmt.Sprint("s", i)
				p.build(b, stage, nil, "--target", stage)
				caches = append(caches, stage)
			}
			return except(p.build(b, "", caches), "[stage-6 ") // which nobody ever built
		}},
	}
	env := testbed.Up(b, testbed.Buildx)
	p := &plain{env: env, engine: env.Engine(b, testbed.Buildx), dir: b.TempDir()}
	for _, story := range stories {
		b.Run(story.name, func(b *testing.B) {
			lost, lossy := 0, 0
			for b.Loop() {
				p.repo = env.Repo(b)
				steps := story.tell(b, p)
				lost += len(steps)
				if len(steps) > 0 {
					lossy++
				}
				b.Logf("lost %q", steps)
			}
			b.ReportMetric(float64(lost)/float64(b.N), "lost/op")
			b.ReportMetric(100*float64(lossy)/float64(b.N), "%lossy")
		})
	}
}
