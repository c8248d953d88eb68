package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

// static is the command as it is released: only so it can run inside cache
// mounts. The one of the other tests has the race detector, which needs libc.
var static = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(binary), "static", command)
	build := exec.Command("go", "build", "-o", path, "../cmd/"+command)
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return path, nil
})

// mountDockerfile has a step that adds to its cache mount what it is given, and
// tells what is in there. It fails for what says so, after that.
const mountDockerfile = `FROM BASE AS deps
COPY deps.txt /deps.txt
RUN --mount=type=cache,id=pkg,target=/pkg cat /deps.txt >>/pkg/log && echo "holds:" $(cat /pkg/log) "." && ! grep fails /deps.txt
FROM BASE
COPY --from=deps /deps.txt /
`

// mountRunner is a runner of the static command.
func mountRunner(t *testing.T, k kind) *runner {
	t.Helper()
	r := newRunner(t, k)
	path, err := static()
	if err != nil {
		t.Fatal(err)
	}
	r.binary = path
	r.write(t, "Dockerfile", mountDockerfile)
	return r.with("--progress", "plain")
}

// give has the next build's step add a word.
func (r *runner) give(t *testing.T, word string) {
	t.Helper()
	r.write(t, "deps.txt", word+"\n")
}

// wantMount checks what became of the only cache mount: what its step found
// and left in it, "" if it did not run; from which level it was restored, "" if
// it was not; and how many tags it was saved to.
func (o outcome) wantMount(t *testing.T, holds, from string, saved int) report.Mount {
	t.Helper()
	if len(o.report.Mounts) != 1 {
		t.Fatalf("%d cache mounts are reported, want one\n%s", len(o.report.Mounts), o.stderr)
	}
	m := o.report.Mounts[0]
	if want := "holds: " + holds + " ."; holds != "" && !strings.Contains(o.stderr, want) || holds == "" && strings.Contains(o.stderr, " holds: ") {
		t.Errorf("the step did not print %q\n%s", want, o.stderr)
	}
	level := ""
	if m.Restored != nil {
		level = m.Restored.Level
		if m.Restored.Error != "" || m.Restored.Warm {
			t.Errorf("restored: %+v", *m.Restored)
		}
	}
	if level != from {
		t.Errorf("restored from %q, want %q\n%s", level, from, o.stderr)
	}
	if m.Used != (holds != "") || len(m.Saved) != saved {
		t.Errorf("used: %t, saved to %v, want %d tags; note %q\n%s", m.Used, m.Saved, saved, m.Note, o.stderr)
	}
	for _, one := range m.Saved {
		if one.Error != "" {
			t.Errorf("%s: %s", one.Ref, one.Error)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return m
}

// What a cache mount held is there on the next runner, and only where a step
// needs it. All the rules of the layers apply: levels, failures, trust.
func TestCacheMountsOutliveTheEngine(t *testing.T) {
	t.Parallel()
	for _, old := range rescueKinds {
		if old.name == "classic" {
			continue
		}
		t.Run(old.name, func(t *testing.T) {
			t.Parallel()
			r := mountRunner(t, old.kind)
			next := func() { r.engine.Fresh(t) }

			r.give(t, "one")
			m := r.on("master").run(t, 0, r.image("1")).wantMount(t, "one", "", 2)
			if m.Changes == nil || m.Changes.New != 1 || m.Changes.Bytes != int64(len("one\n")) || m.Changes.Uploaded == 0 {
				t.Errorf("changes: %+v", m.Changes)
			}
			before := r.tags(t)

			next()
			r.on("master").run(t, 0, r.image("1")).wantMount(t, "", "", 0)
			for tag, digest := range r.tags(t) {
				if strings.Contains(tag, "mount") && before[tag] != digest {
					t.Errorf("%s was moved by a build that touched no mount", tag)
				}
			}

			next()
			r.give(t, "two")
			r.on("feat/x").run(t, 0, r.image("2")).wantMount(t, "one two", "default", 2)

			next()
			r.give(t, "fails")
			r.on("feat/x").run(t, 1, r.image("3")).wantMount(t, "one two fails", "branch", 2)

			next()
			r.give(t, "three")
			fork := r.on("feat/x").with("--cache-trust", "fork")
			before = r.tags(t)
			fork.run(t, 0, r.image("4"), "--push=false").wantMount(t, "one two fails three", "branch", 0)
			for tag, digest := range r.tags(t) {
				if before[tag] != digest {
					t.Errorf("a fork has written %s", tag)
				}
			}

			next()
			r.give(t, "four")
			r.on("master").run(t, 0, r.image("5")).wantMount(t, "one four", "branch", 2)
			// The engine is still warm.
			r.give(t, "five")
			o := r.on("master").run(t, 0, r.image("6"))
			if m := o.report.Mounts[0]; m.Restored == nil || !m.Restored.Warm || len(m.Saved) != 2 || !strings.Contains(o.stderr, "holds: one four five .") {
				t.Errorf("on the warm engine: %+v\n%s", m, o.stderr)
			}
		})
	}
}

// The other ways to a BuildKit serve as well.
func TestCacheMountsOnOtherEngines(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds[1:] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := mountRunner(t, kind)
			r.give(t, "one")
			r.on("master").run(t, 0, r.image("1")).wantMount(t, "one", "", 2)
			r.engine.Fresh(t)
			r.on("master").run(t, 0, r.image("1")).wantMount(t, "", "", 0)
			r.engine.Fresh(t)
			r.give(t, "two")
			r.on("feat/x").run(t, 0, r.image("2")).wantMount(t, "one two", "default", 2)
		})
	}
}

// Where cache mounts cannot be kept, it is said, and the build goes on.
func TestCacheMountsThatCannotBeKept(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "Dockerfile", mountDockerfile)
	r.give(t, "one")
	if raceEnabled {
		o := r.on("master").run(t, 0, r.image("1"))
		if len(o.report.Mounts) != 0 || !strings.Contains(o.stderr, "skipped cache mounts: this program was not built with CGO_ENABLED=0") {
			t.Errorf("%+v\n%s", o.report.Mounts, o.stderr)
		}
	}
	o := r.on("master").run(t, 0, r.image("1"), "--cache-mounts", "none")
	if len(o.report.Mounts) != 0 || !strings.Contains(o.stderr, "skipped cache mounts: --cache-mounts=none") {
		t.Errorf("%+v\n%s", o.report.Mounts, o.stderr)
	}
}
