package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

// rescueStep is a step and what stands before it. %s is what it does, of which
// a mishap may take the place; old is how engines write it that know neither
// heredocs nor --link nor RUN --mount, "" for the same.
type rescueStep struct{ before, text, old string }

// rescueSteps are the steps of three stages, of which test is a leaf that
// nothing uses and the last one is unnamed.
var rescueSteps = []rescueStep{
	{"FROM BASE AS builder", "RUN echo 1 >/1 && %s", ""},
	{"", "COPY --link %s /src/", "COPY %s /src/"},
	{"", "RUN sleep 0.2; echo 3 >/3 && %s", ""},
	{"", "RUN <<EOF\necho 4 >/4\n%s\nEOF", "RUN echo 4 >/4; %s"},
	{"ENV KEY=value", "RUN sleep 0.2; echo $KEY >/5 && %s", ""},
	{"FROM builder AS test", "RUN sleep 0.3; echo 6 >/6 && %s", ""},
	{"", "COPY %s /test/", ""},
	{"", "RUN echo 8 >/8 && %s", ""},
	{"FROM BASE", "RUN sleep 0.1; echo 9 >/9 && %s", ""},
	{"", "COPY --from=builder /%s /", ""},
	{"", "RUN --mount=type=bind,from=builder,target=/b echo 11 >/11 && %s", "RUN echo 11 >/11 && %s"},
	{"", "WORKDIR /srv/%s", ""},
	{"", "RUN echo 13 >/13 && %s", ""},
}

// mishap is what a step does in place of its work, by what kind of step it is.
type mishap struct{ run, source, built, dir string }

var (
	sound = mishap{"true", "src.txt", "5", "here"}
	fails = mishap{run: "exit 7", source: "missing.txt", built: "missing"}
	waits = mishap{run: "echo now in the step && sleep 120"}
)

// of is the part of a mishap that befalls a step, "" for none.
func (m mishap) of(text string) string {
	switch {
	case strings.HasPrefix(text, "COPY --from"):
		return m.built
	case strings.HasPrefix(text, "COPY"):
		return m.source
	case strings.HasPrefix(text, "WORKDIR"):
		return m.dir
	}
	return m.run
}

// rescueDockerfile is the Dockerfile in which a mishap befalls step k, counted
// from 1; 0 is the sound one.
func (k rescueKind) dockerfile(step int, m mishap) string {
	var b strings.Builder
	for i, s := range rescueSteps {
		if s.before != "" {
			fmt.Fprintln(&b, s.before)
		}
		text, does := s.text, sound
		if k.old && s.old != "" {
			text = s.old
		}
		if i+1 == step {
			does = m
		}
		fmt.Fprintf(&b, text+"\n", does.of(text))
	}
	return b.String()
}

// rescueKind is a kind of engine, with how it writes steps.
type rescueKind struct {
	kind
	old bool
}

// rescueKinds are the ways in which engines hand over what a failed build
// completed: a cache of its own, images of a cut Dockerfile, images of steps.
var rescueKinds = []rescueKind{
	{kinds[0], false},
	{kind{"docker", testbed.Docker, dockerHost}, true},
	{kind{"classic", testbed.Docker, func(address string) []string { return []string{"DOCKER_HOST=" + address, "DOCKER_BUILDKIT=0"} }}, true},
}

func rescueDockerfile(step int, m mishap) string { return rescueKinds[0].dockerfile(step, m) }

// canFail and canWait tell which steps a mishap can befall.
func canFail(k int) bool { return fails.of(rescueSteps[k-1].text) != "" }
func canWait(k int) bool { return waits.of(rescueSteps[k-1].text) != "" }

// chosen are the steps to try: some of them in an ordinary run, all in a soak.
func chosen(possible func(int) bool, some ...int) []int {
	var steps []int
	for k := 1; k <= len(rescueSteps); k++ {
		if possible(k) && (soaking() || slices.Contains(some, k)) {
			steps = append(steps, k)
		}
	}
	return steps
}

func soaking() bool { return os.Getenv("SOAK") != "" }

// statuses are those of all steps in the order of the file, and whether each is
// said to be saved.
func statuses(r report.Report) (statuses []report.Status, saved []bool) {
	for _, stage := range r.Stages {
		for _, step := range stage.Steps {
			statuses = append(statuses, step.Status)
			saved = append(saved, step.Saved)
		}
	}
	return statuses, saved
}

// wantResumed checks that a repaired build on a fresh engine ran exactly what
// the first had not completed, and that the first told so.
func wantResumed(t *testing.T, first, second outcome) {
	t.Helper()
	before, saved := statuses(first.report)
	after, _ := statuses(second.report)
	if len(before) != len(rescueSteps) || len(after) != len(rescueSteps) {
		t.Fatalf("%d steps, then %d, want %d\n%s", len(before), len(after), len(rescueSteps), first.stderr)
	}
	for i := range before {
		complete := before[i] == report.Ran || before[i] == report.Cached
		hit := after[i] == report.Cached
		if complete != hit || complete != saved[i] {
			t.Errorf("step %d: %s (saved: %t), then %s\n%s\n%s", i+1, before[i], saved[i], after[i], first.stderr, second.stderr)
			return
		}
	}
	t.Logf("%s then %s", first.steps(), second.steps())
}

// A step that fails costs itself and what depends on it, nothing else.
func TestRescueAfterFailure(t *testing.T) {
	t.Parallel()
	for _, kind := range rescueKinds {
		some := []int{8}
		if !kind.old {
			some = []int{5, 8}
		}
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, kind.kind)
			r.write(t, "src.txt", "source\n")
			for _, k := range chosen(canFail, some...) {
				t.Run(fmt.Sprint(k), func(t *testing.T) {
					branch := r.inRepo(t).on("feat/x")
					r.write(t, "Dockerfile", kind.dockerfile(k, fails))
					r.engine.Fresh(t)
					failed := branch.run(t, 1, branch.image("1"))
					wantStatus(t, failed, k, report.Failed)

					r.write(t, "Dockerfile", kind.dockerfile(0, fails))
					r.engine.Fresh(t)
					repaired := branch.run(t, 0, branch.image("1"))
					wantResumed(t, failed, repaired)
					wantGzip(t, branch.image("1"))
					wantImportable(t, branch.repo)
				})
			}
		})
	}
}

// A frontend that the Dockerfile names by its syntax directive runs in a
// container of its own: the stages are still one definition.
func TestRescueWithSyntaxImage(t *testing.T) {
	t.Parallel()
	tried := []kind{kinds[0], rescueKinds[1].kind}
	if soaking() {
		tried = append(tried, kinds[1:]...)
	}
	for _, kind := range tried {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, kind)
			syntax := "# syntax=" + r.env.Base("dockerfile:1") + "\n"
			r.write(t, "src.txt", "source\n")
			for _, k := range chosen(canFail, 8) {
				branch := r.inRepo(t).on("feat/x")
				r.write(t, "Dockerfile", syntax+rescueDockerfile(k, fails))
				failed := branch.run(t, 1, branch.image("1"))
				wantStatus(t, failed, k, report.Failed)
				r.engine.Fresh(t)
				r.write(t, "Dockerfile", syntax+rescueDockerfile(0, fails))
				wantResumed(t, failed, branch.run(t, 0, branch.image("1")))
			}
		})
	}
}

// With --keep-going, what does not need the step that failed is completed.
func TestKeepGoing(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "src.txt", "source\n")
	branch := r.on("feat/x").with("--keep-going")
	r.write(t, "Dockerfile", strings.Replace(rescueDockerfile(9, fails), "RUN sleep 0.1; ", "RUN ", 1))
	failed := branch.run(t, 1, r.image("1"))
	failed.wantSteps(t, "builder=rrrrr test=rrr 2=f----")
}

// A signal stops the steps that run; what was complete is saved.
func TestRescueAfterSignal(t *testing.T) {
	t.Parallel()
	signals := []struct {
		name   string
		signal syscall.Signal
		some   int // the step to try it in, in an ordinary run
	}{{"INT", syscall.SIGINT, 4}, {"TERM", syscall.SIGTERM, 11}}
	for _, kind := range rescueKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, kind.kind)
			r.write(t, "src.txt", "source\n")
			for _, s := range signals {
				if kind.old && s.signal == syscall.SIGINT && !soaking() {
					continue
				}
				for _, k := range chosen(canWait, s.some) {
					t.Run(fmt.Sprint(k, s.name), func(t *testing.T) {
						branch := r.inRepo(t).on("feat/x")
						r.write(t, "Dockerfile", kind.dockerfile(k, waits))
						r.engine.Fresh(t)
						p := branch.start(t, branch.image("1"), "--progress", "plain")
						p.signal(t, "now in the step\n", s.signal)
						canceled := p.wait(t)
						if want := 128 + int(s.signal); canceled.status != want {
							t.Fatalf("exit status %d, want %d\n%s", canceled.status, want, canceled.stderr)
						}
						wantStatus(t, canceled, k, report.Canceled)

						r.write(t, "Dockerfile", kind.dockerfile(0, waits))
						r.engine.Fresh(t)
						repaired := branch.run(t, 0, branch.image("1"))
						wantResumed(t, canceled, repaired)
						wantGzip(t, branch.image("1"))
					})
				}
			}
		})
	}
}

// A build that fails early does not take away what an earlier one saved.
func TestPartialNeverReplacesMore(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "src.txt", "source\n")
	branch := r.on("feat/x")
	r.write(t, "Dockerfile", rescueDockerfile(8, fails))
	far := branch.run(t, 1, r.image("1"))
	wantStatus(t, far, 8, report.Failed)

	// Another change, which fails in its first step and builds another stage.
	r.engine.Fresh(t)
	r.write(t, "Dockerfile", strings.Replace(rescueDockerfile(0, fails), "RUN echo 1 >/1 && true", "RUN exit 1", 1))
	near := branch.run(t, 1, r.image("1"))
	wantStatus(t, near, 1, report.Failed)

	r.engine.Fresh(t)
	r.write(t, "Dockerfile", rescueDockerfile(0, fails))
	repaired := branch.run(t, 0, r.image("1"))
	before, _ := statuses(far.report)
	after, _ := statuses(repaired.report)
	for i := range before {
		if before[i] == report.Ran && after[i] != report.Cached {
			t.Errorf("step %d ran, then %s\n%s", i+1, after[i], repaired.stderr)
		}
	}
	wantImportable(t, r.repo)
}

// Without a branch there is a place for what a failed build completed too.
func TestRescueWithoutBranch(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "src.txt", "source\n")
	r.write(t, "Dockerfile", rescueDockerfile(4, fails))
	failed := r.run(t, 1, r.image("1"))
	r.engine.Fresh(t)
	r.write(t, "Dockerfile", rescueDockerfile(0, fails))
	wantResumed(t, failed, r.run(t, 0, r.image("1")))
}

// ONBUILD triggers are steps of the stage that they fall into.
func TestRescueAfterOnbuild(t *testing.T) {
	r := onBuildKit(t)
	const dockerfile = "FROM BASE AS parent\nONBUILD RUN echo triggered >/triggered\nRUN echo p >/p\n\nFROM parent\nRUN echo c >/c\nRUN echo d && %s\n"
	branch := r.on("feat/x")
	r.write(t, "Dockerfile", fmt.Sprintf(dockerfile, "exit 7"))
	failed := branch.run(t, 1, r.image("1"))
	failed.wantSteps(t, "parent=r 1=rrf")
	r.engine.Fresh(t)
	r.write(t, "Dockerfile", fmt.Sprintf(dockerfile, "true"))
	branch.run(t, 0, r.image("1")).wantSteps(t, "parent=c 1=ccr")
}

// wantStatus checks what became of step k.
func wantStatus(t *testing.T, o outcome, k int, want report.Status) {
	t.Helper()
	all, _ := statuses(o.report)
	if len(all) < k || all[k-1] != want {
		t.Fatalf("steps are %s, want step %d %s\n%s", o.steps(), k, want, o.stderr)
	}
}
