package e2e

import (
	"strings"
	"testing"
)

// endless is the project with a step that never ends, in the middle of the
// builder. It says when it has begun.
func endless(t *testing.T) string {
	t.Helper()
	const step = "COPY main.txt /src/\n"
	if !strings.Contains(project, step) {
		t.Fatal("the project has no step " + step)
	}
	return strings.Replace(project, step, "RUN echo has-begun && tail -f /dev/null\n"+step, 1)
}

// begun is what the endless step prints, as the progress shows it.
const begun = " has-begun\n"

// An engine that goes away is an error of the build, told as such; what the
// run cannot save then, it says.
func TestEngineGoesAway(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, r *runner) {
		writeProject(t, r)
		r.write(t, "Dockerfile", endless(t))
		p := r.on("master").start(t, r.image("1"))
		p.await(t, begun)
		r.engine.Fresh(t)
		gone := p.wait(t)
		if gone.status != 1 {
			t.Fatalf("exit status %d, want 1\n%s", gone.status, gone.stderr)
		}
		gone.wantSaid(t, `^error: build: the engine went away: `, `^hint: look at the engine's log`)
		if gone.report.Result.Status != "failed" || gone.report.Result.Error == "" {
			t.Errorf("the report says %+v", gone.report.Result)
		}
	})
}
