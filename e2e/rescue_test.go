package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

// rescueSteps are the steps of three stages, of which test is a leaf that
// nothing uses and the last one is unnamed. %d is what differs when a step is
// made to fail, or to wait for a signal.
var rescueSteps = []struct{ before, text string }{
	{"FROM BASE AS builder", "RUN echo 1 >/1 && %s"},
	{"", "COPY --link %s /src/"},
	{"", "RUN sleep 0.2; echo 3 >/3 && %s"},
	{"", "RUN <<EOF\necho 4 >/4\n%s\nEOF"},
	{"ENV KEY=value", "RUN sleep 0.2; echo $KEY >/5 && %s"},
	{"FROM builder AS test", "RUN sleep 0.3; echo 6 >/6 && %s"},
	{"", "COPY %s /test/"},
	{"", "RUN echo 8 >/8 && %s"},
	{"FROM BASE", "RUN sleep 0.1; echo 9 >/9 && %s"},
	{"", "COPY --from=builder /%[2]s /"},
	{"", "RUN --mount=type=bind,from=builder,target=/b echo 11 >/11 && %s"},
	{"", "WORKDIR /work/%[3]s"},
	{"", "RUN echo 13 >/13 && %s"},
}

// what a step does in place of its work.
type mishap struct{ run, source, built string }

var (
	fails = mishap{"exit 7", "missing.txt", "missing"}
	waits = mishap{run: "echo now in the step && sleep 120"}
)

// rescueDockerfile is the Dockerfile in which a mishap befalls step k, counted
// from 1; 0 is the sound one.
func rescueDockerfile(k int, m mishap) string {
	var b strings.Builder
	for i, step := range rescueSteps {
		if step.before != "" {
			fmt.Fprintln(&b, step.before)
		}
		does := mishap{"true", "src.txt", "5"}
		if i+1 == k {
			does = m
		}
		text := step.text
		switch {
		case strings.HasPrefix(text, "COPY --from"):
			text = strings.ReplaceAll(text, "%[2]s", does.built)
		case strings.HasPrefix(text, "COPY"):
			text = fmt.Sprintf(text, does.source)
		case strings.HasPrefix(text, "WORKDIR"):
			text = strings.ReplaceAll(text, "%[3]s", "here")
		default:
			text = fmt.Sprintf(text, does.run)
		}
		fmt.Fprintln(&b, text)
	}
	return b.String()
}

// canFail and canWait tell which steps a mishap can befall.
func canFail(k int) bool { return !strings.HasPrefix(rescueSteps[k-1].text, "WORKDIR") }
func canWait(k int) bool { return strings.HasPrefix(rescueSteps[k-1].text, "RUN") }

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
	r := onBuildKit(t)
	r.write(t, "src.txt", "source\n")
	for _, k := range chosen(canFail, 2, 5, 8, 10) {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			branch := r.inRepo(t).on("feat/x")
			r.write(t, "Dockerfile", rescueDockerfile(k, fails))
			r.engine.Fresh(t)
			failed := branch.run(t, 1, branch.image("1"))
			wantStatus(t, failed, k, report.Failed)

			r.write(t, "Dockerfile", rescueDockerfile(0, fails))
			r.engine.Fresh(t)
			repaired := branch.run(t, 0, branch.image("1"))
			wantResumed(t, failed, repaired)
			wantGzip(t, branch.image("1"))
			wantImportable(t, branch.repo)
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
	r := onBuildKit(t)
	r.write(t, "src.txt", "source\n")
	for _, k := range chosen(canWait, 4, 11) {
		for name, signal := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM} {
			if !soaking() && (k == 4) != (signal == syscall.SIGINT) {
				continue // one each
			}
			t.Run(fmt.Sprint(k, name), func(t *testing.T) {
				branch := r.inRepo(t).on("feat/x")
				r.write(t, "Dockerfile", rescueDockerfile(k, waits))
				r.engine.Fresh(t)
				p := branch.start(t, branch.image("1"), "--progress", "plain")
				p.signal(t, " now in the step\n", signal)
				canceled := p.wait(t)
				if want := 128 + int(signal); canceled.status != want {
					t.Fatalf("exit status %d, want %d\n%s", canceled.status, want, canceled.stderr)
				}
				wantStatus(t, canceled, k, report.Canceled)

				r.write(t, "Dockerfile", rescueDockerfile(0, waits))
				r.engine.Fresh(t)
				repaired := branch.run(t, 0, branch.image("1"))
				wantResumed(t, canceled, repaired)
				wantGzip(t, branch.image("1"))
			})
		}
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
