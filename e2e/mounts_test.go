package e2e

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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
// tells what is in there. It fails or waits for what says so, after that.
const mountDockerfile = `FROM BASE AS deps
COPY deps.txt /deps.txt
RUN --mount=type=cache,id=pkg,target=/pkg cat /deps.txt >>/pkg/log && echo "holds:" $(cat /pkg/log) "." && ! grep fails /deps.txt && \
  if grep waits /deps.txt; then sleep 600; fi
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

// A hit is told from a step that will run by all that a step can depend on:
// what it copied, what it mounts from the context and from stages, its base
// image and its own text. Steps that will be hits touch no mount, and those
// that run begin with it, in every case.
func TestCacheMountsAreRestoredOnlyForStepsThatRun(t *testing.T) {
	t.Parallel()
	const dockerfile = `FROM BASE AS other
COPY other.txt /dir/
FROM BASE AS first
RUN --mount=type=cache,id=pkg,target=/pkg --mount=type=bind,source=deps.txt,target=/deps.txt --mount=type=bind,source=dir,target=/d --mount=from=other,source=/dir,target=/other \
  cat /deps.txt >>/pkg/log && echo "holds:" $(cat /pkg/log) "."
FROM first
RUN --mount=type=cache,id=pkg,target=/pkg echo $(cat /pkg/log) >/all
`
	r := mountRunner(t, kinds[0])
	write := func(deps, dir, other, text string) {
		r.write(t, "deps.txt", deps)
		r.write(t, "dir/file", dir)
		r.write(t, "other.txt", other)
		r.write(t, "Dockerfile", strings.Replace(dockerfile, "cat /deps.txt", text, 1))
	}
	write("1", "1", "1", "cat /deps.txt")
	r.on("master").run(t, 0, r.image("1")).wantMount(t, "1", "", 2)
	for _, c := range []struct{ name, deps, dir, other, text, holds string }{
		{"nothing", "1", "1", "1", "cat /deps.txt", ""},
		{"a file that is mounted", "2", "1", "1", "cat /deps.txt", "12"},
		{"the same as before", "1", "1", "1", "cat /deps.txt", ""},
		{"a directory that is mounted", "1", "2", "1", "cat /deps.txt", "11"},
		{"a stage that is mounted", "1", "1", "2", "cat /deps.txt", "11"},
		{"the step", "1", "1", "1", "cat  /deps.txt", "11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.engine.Fresh(t)
			write(c.deps, c.dir, c.other, c.text)
			from, o := "", r.on("feat").with("--cache-trust", "fork").run(t, 0, r.image("1"), "--push=false")
			if c.holds != "" {
				from = "default"
			}
			o.wantMount(t, c.holds, from, 0)
		})
	}
}

// A step that fails before the one with the mount runs once, and restores
// nothing for a step that was known to be possible only if it is reached.
func TestCacheMountsBehindAFailure(t *testing.T) {
	t.Parallel()
	r := mountRunner(t, kinds[0])
	r.write(t, "Dockerfile", strings.Replace(mountDockerfile, "COPY deps.txt /deps.txt\n", "COPY deps.txt /deps.txt\nRUN echo \"got:\" $(cat /deps.txt) \".\" && ! grep -q stop /deps.txt\n", 1))
	r.give(t, "one")
	r.on("master").run(t, 0, r.image("1")).wantMount(t, "one", "", 2)
	r.engine.Fresh(t)
	r.give(t, "stop")
	o := r.on("master").run(t, 1, r.image("1"))
	if n := strings.Count(o.stderr, " got: stop .\n"); n == 0 || len(regexp.MustCompile(`(?m)^#\d+ [\d.]+ got: stop`).FindAllString(o.stderr, -1)) != 1 {
		t.Errorf("the failing step ran other than once\n%s", o.stderr)
	}
	o.wantMount(t, "", "", 0)
}

// While a step with a mount is waited for, what does not need it goes on: here
// it is met by the step before in a mount of another kind.
func TestCacheMountsHoldNothingElseUp(t *testing.T) {
	t.Parallel()
	r := mountRunner(t, kinds[0])
	r.write(t, "Dockerfile", `FROM BASE AS first
COPY deps.txt /
RUN --mount=type=cache,id=meet,target=/meet touch /meet/first; for i in $(seq 300); do test -e /meet/second && exit; sleep 0.1; done; exit 1
RUN --mount=type=cache,id=pkg,target=/pkg cat /deps.txt >>/pkg/log && echo "holds:" $(cat /pkg/log) "."
FROM BASE AS second
COPY deps.txt /
RUN --mount=type=cache,id=meet,target=/meet touch /meet/second; for i in $(seq 300); do test -e /meet/first && exit; sleep 0.1; done; exit 1
FROM BASE
COPY --from=first /deps.txt /1
COPY --from=second /deps.txt /2
`)
	branch := r.on("master").with("--cache-mounts", "pkg")
	r.give(t, "one")
	branch.run(t, 0, r.image("1")).wantMount(t, "one", "", 2)
	r.engine.Fresh(t)
	r.give(t, "two")
	branch.run(t, 0, r.image("1")).wantMount(t, "one two", "branch", 2)
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

// A mount that was filled is saved whatever ends the build: by the run itself
// where it is given the time, else by save.
func TestCacheMountsOfInterruptedBuilds(t *testing.T) {
	t.Parallel()
	r := mountRunner(t, kinds[0])
	branch := r.on("feat/x")
	r.give(t, "waits")
	p := branch.start(t, r.image("1"))
	p.signal(t, " holds: waits .", syscall.SIGTERM)
	p.wantStatus(t, 143).wantMount(t, "waits", "", 2)

	r.engine.Fresh(t)
	state := filepath.Join(t.TempDir(), "state")
	r.give(t, "waits too")
	p = branch.start(t, r.image("1"), "--state", state)
	p.await(t, " holds: waits waits too .")
	// Another vertex may be running in the state from before the step; that it
	// has begun is written down within a fifth of a second.
	time.Sleep(2 * time.Second)
	awaitState(t, state, func(s stateFile) bool {
		return slices.ContainsFunc(s.Build.Vertices, func(v stateVertex) bool { return v.Running })
	})
	p.kill(t)
	r.verb(t, 0, "save", "--state", state).wantSaid(t, `cache mount "pkg" is saved to .*:feat-x-mount-pkg-`)

	r.engine.Fresh(t)
	r.give(t, "end")
	branch.run(t, 0, r.image("1")).wantMount(t, "waits waits too end", "branch", 2)
}

// Builds that share an engine share its mounts, as far as sharing= lets them,
// and each keeps what it finds. Nobody waits for ever, and none fails for it.
func TestCacheMountsOfBuildsAtOnce(t *testing.T) {
	t.Parallel()
	modes := []string{"locked"}
	if soaking() {
		modes = append(modes, "private", "shared")
	}
	for _, sharing := range modes {
		t.Run(sharing, func(t *testing.T) {
			r := mountRunner(t, kinds[0])
			r.write(t, "Dockerfile", strings.ReplaceAll(mountDockerfile, "id=pkg,", "id=pkg,sharing="+sharing+","))
			r.give(t, "base")
			r.on("master").run(t, 0, r.image("1")).wantMount(t, "base", "", 2)
			r.engine.Fresh(t)
			var running []*process
			for _, name := range []string{"a", "b"} {
				other := *r
				other.dir = t.TempDir()
				other.write(t, "Dockerfile", strings.ReplaceAll(mountDockerfile, "id=pkg,", "id=pkg,sharing="+sharing+","))
				other.give(t, name)
				running = append(running, other.on(name).start(t, r.image(name)))
			}
			for _, p := range running {
				o := p.wantStatus(t, 0)
				if m := o.report.Mounts[0]; len(m.Saved) != 2 && m.Note == "" {
					t.Errorf("%+v\n%s", m, o.stderr)
				}
				if !strings.Contains(o.stderr, " holds: base ") {
					t.Errorf("the mount was not restored:\n%s", o.stderr)
				}
			}
			r.engine.Fresh(t)
			r.give(t, "end")
			if o := r.on("a").run(t, 0, r.image("1")); !regexp.MustCompile(` holds: base ((a|b) ){1,2}end \.`).MatchString(o.stderr) {
				t.Errorf("%s", o.stderr)
			}
		})
	}
}

// Whenever a run is killed, in the middle of restoring or saving too, the next
// one begins with a whole state: that of before or that of after.
func TestCacheMountsSurviveKill(t *testing.T) {
	if !soaking() {
		t.Skip("SOAK is not set")
	}
	t.Parallel()
	r := mountRunner(t, kinds[0])
	r.write(t, "Dockerfile", strings.ReplaceAll(mountDockerfile, "cat /deps.txt >>/pkg/log &&",
		"for i in $(seq 2000); do test -e /pkg/$i || head -c 3000 /dev/urandom >/pkg/$i; done; test $(ls /pkg | wc -l) -ge 2000 && cat /deps.txt >>/pkg/log &&"))
	branch := r.on("feat/x")
	r.give(t, "0")
	branch.run(t, 0, r.image("1"))
	whole, took := "0", 4*time.Second // of a run; a later kill finds it ended
	killed := map[string]int{}
	for trial := range 40 {
		if trial%4 != 0 {
			r.engine.Fresh(t)
		}
		word := fmt.Sprint("k", trial)
		r.give(t, word)
		p := branch.start(t, r.image("1"))
		p.await(t, "#1 ")
		time.Sleep(rand.N(took))
		p.kill(t)
		if trial%2 == 0 {
			r.engine.Fresh(t)
		}
		end := fmt.Sprint("e", trial)
		r.give(t, end)
		began := time.Now()
		o := branch.run(t, 0, r.image("1"))
		took = time.Since(began)
		held := regexp.MustCompile(` holds: (.*) \.`).FindStringSubmatch(o.stderr)
		switch {
		case held == nil:
			t.Fatalf("the step did not run\n%s", o.stderr)
		case held[1] == whole+" "+end:
			killed["before"]++
		case held[1] == whole+" "+word+" "+end:
			killed["after"]++
		default:
			t.Fatalf("after the kill the mount held %q, before it %q\n%s", held[1], whole, o.stderr)
		}
		whole = held[1]
	}
	t.Logf("killed before and after the mount was kept: %v", killed)
}
