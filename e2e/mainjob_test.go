package e2e

import (
	"strings"
	"testing"
)

// project is a small program with what real ones have: tools, dependencies
// that change rarely, sources that change often, tests that no stage needs.
const project = `FROM BASE AS tools
RUN echo compiler >/tools

FROM BASE AS builder
COPY --from=tools /tools /tools
COPY deps.txt /src/
RUN cat /src/deps.txt >/deps
COPY main.txt /src/
RUN cat /deps /src/main.txt >/app

FROM builder AS test
RUN grep -q main /app

FROM BASE
COPY --from=builder /app /app
CMD ["cat", "/app"]
`

// nothingRan are the project's steps where all of them were cached.
const nothingRan = "tools=c builder=ccccc test=c 3=c"

func writeProject(t *testing.T, r *runner) {
	t.Helper()
	r.write(t, "Dockerfile", project)
	r.write(t, "deps.txt", "deps\n")
	r.write(t, "main.txt", "main\n")
}

// The story of issue A: what was ever built on a branch, on the default branch
// or anywhere is not built again, on engines that are always new.
func TestMainJob(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, r *runner) { mainJob(t, r, true) })
}

// The same on engines that keep caches inside images alone, where an image may
// carry more or less of the cache from one build to the next.
func TestMainJobOnDocker20(t *testing.T) {
	t.Parallel()
	for _, old := range rescueKinds {
		if old.old {
			t.Run(old.name, func(t *testing.T) {
				t.Parallel()
				mainJob(t, newRunner(t, old.kind), false)
			})
		}
	}
}

func mainJob(t *testing.T, r *runner, reproducible bool) {
	writeProject(t, r)
	master, branch := r.on("master"), r.on("feat/x")

	cold := master.run(t, 0, r.image("1"))
	cold.wantSteps(t, "tools=r builder=rrrrr test=r 3=r")
	cold.wantImported(t, "tools=none builder=none test=none 3=none")
	cold.wantSaved(t, "master-tools tools master-builder builder master-test test master latest")

	r.engine.Fresh(t)
	again := master.run(t, 0, r.image("2"))
	again.wantSteps(t, nothingRan)
	again.wantImported(t, "tools=branch builder=branch test=branch 3=branch")
	again.wantSaved(t, "")
	again.wantSaid(t, `unchanged`)
	if reproducible && cold.report.Result.Digest != again.report.Result.Digest {
		t.Errorf("the image differs: %s, then %s", cold.report.Result.Digest, again.report.Result.Digest)
	}

	r.engine.Fresh(t)
	first := branch.run(t, 0, r.image("3"))
	first.wantSteps(t, nothingRan)
	first.wantImported(t, "tools=default builder=default test=default 3=default")
	first.wantSaved(t, "feat-x-tools feat-x-builder feat-x-test feat-x")

	r.write(t, "main.txt", "main, changed\n")
	r.engine.Fresh(t)
	changed := branch.run(t, 0, r.image("4"))
	changed.wantSteps(t, "tools=c builder=cccrr test=r 3=r")

	r.engine.Fresh(t)
	other := r.on("feat/y").with("--default-branch", "trunk").run(t, 0, r.image("5"))
	other.wantSteps(t, nothingRan)
	other.wantImported(t, "tools=unprefixed builder=unprefixed test=unprefixed 3=unprefixed")
}

// A branch keeps what its first build found elsewhere, since others move on.
func TestNewBranchKeepsWhatItFound(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	r.on("feat/x").run(t, 0, r.image("1"))

	r.engine.Fresh(t)
	r.on("feat/y").run(t, 0, r.image("1")).wantSteps(t, nothingRan)

	r.engine.Fresh(t)
	r.write(t, "main.txt", "main, changed\n")
	r.on("feat/x").run(t, 0, r.image("1"))

	r.engine.Fresh(t)
	r.write(t, "main.txt", "main\n")
	r.on("feat/y").run(t, 0, r.image("1")).wantSteps(t, nothingRan)
}

// What completed before a failure is there for the next run, and the image is
// not.
func TestFailedThenFixed(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, r *runner) {
		writeProject(t, r)
		branch := r.on("feat/x")

		r.write(t, "Dockerfile", failingAfter(t, "RUN cat /src/deps.txt >/deps"))
		builder := branch.run(t, 1, r.image("1"))
		builder.wantSteps(t, "tools=r builder=rrrf-- test=- 3=-")
		builder.wantSaid(t, `^error: build: .*exit code: 3`, `^Dockerfile:8$`, `>>> RUN exit 3`)
		wantAbsent(t, r.image("1"))

		r.engine.Fresh(t)
		r.write(t, "Dockerfile", failingAfter(t, "COPY --from=builder /app /app"))
		final := branch.run(t, 1, r.image("1"))
		final.wantSteps(t, "tools=c builder=cccrr test=[rx-] 3=rf")
		wantAbsent(t, r.image("1"))

		r.engine.Fresh(t)
		r.write(t, "Dockerfile", project)
		fixed := branch.run(t, 0, r.image("1"))
		test := "r"
		if strings.Contains(final.steps(), "test=r") {
			test = "c"
		}
		fixed.wantSteps(t, "tools=c builder=ccccc test="+test+" 3=c")
	})
}

// failingAfter is the project's Dockerfile with a step that fails after one
// that does not.
func failingAfter(t *testing.T, step string) string {
	t.Helper()
	if !strings.Contains(project, step+"\n") {
		t.Fatalf("the project has no step %q", step)
	}
	return strings.Replace(project, step, step+"\nRUN exit 3", 1)
}
