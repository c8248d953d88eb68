package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

// killDockerfile is a build of a few seconds in three stages, of which two run
// at once.
const killDockerfile = `FROM BASE AS deps
RUN sleep 0.4; echo 1 >/1
COPY src.txt /src/
RUN sleep 0.4; echo 3 >/3
FROM deps AS test
RUN sleep 0.4; echo 4 >/4
RUN sleep 0.4; echo 5 >/5
RUN sleep 0.4; echo 6 >/6
FROM deps
RUN sleep 0.3; echo 7 >/7
RUN sleep 0.3; echo 8 >/8
RUN sleep 0.3; echo 9 >/9
`

// Whatever is killed, and whenever: the next run on another machine repeats
// nothing that had been completed before the last checkpoint.
func TestCheckpointsSurviveKill(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "src.txt", "source\n")
	r.write(t, "Dockerfile", killDockerfile)
	trials := 2
	if soaking() {
		trials = 30
	}
	for trial := range trials {
		for _, engineToo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d engine=%t", trial, engineToo), func(t *testing.T) {
				branch := r.inRepo(t).on("feat/x").with("--checkpoint", "300ms")
				state := filepath.Join(t.TempDir(), "state")
				r.engine.Fresh(t)
				p := branch.start(t, branch.image("1"), "--state", state)
				if trial == 0 {
					awaitState(t, state, func(s stateFile) bool { return len(s.Held) > 0 })
				} else {
					p.await(t, "#") // the build has begun
					time.Sleep(rand.N(5 * time.Second))
				}
				p.kill(t)
				if engineToo {
					r.engine.Fresh(t) // kills it in the same instant
				}
				wantNoProcess(t, branch)
				wantImportable(t, branch.repo)
				held := heldBy(t, state)

				r.engine.Fresh(t)
				again := branch.run(t, 0, branch.image("1"))
				for _, stage := range again.report.Stages {
					for _, step := range stage.Steps {
						if held[step.Line] && step.Status != report.Cached {
							t.Errorf("line %d was saved, then %s\n%s", step.Line, step.Status, again.stderr)
						}
					}
				}
				t.Logf("%d steps held, then %s", len(held), again.steps())
				wantGzip(t, branch.image("1"))
			})
		}
	}
}

// Engines that keep caches inside images save a stage once it is done, and a
// long one at intervals.
func TestImagesSurviveKill(t *testing.T) {
	t.Parallel()
	const dockerfile = "FROM BASE AS deps\nRUN echo 1 >/1\nRUN echo 2 >/2\nFROM deps AS app\nRUN echo 3 >/3\nRUN echo 4 >/4 && %s\n"
	for _, kind := range rescueKinds[1:] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, kind.kind)
			r.write(t, "Dockerfile", fmt.Sprintf(dockerfile, "sleep 120"))
			branch := r.on("feat/x").with("--checkpoint", "1s")
			state := filepath.Join(t.TempDir(), "state")
			p := branch.start(t, r.image("1"), "--state", state)
			awaitState(t, state, func(s stateFile) bool { return len(s.Held) == 3 })
			p.kill(t)
			wantNoProcess(t, branch)
			wantImportable(t, r.repo)
			r.engine.Fresh(t)
			r.write(t, "Dockerfile", fmt.Sprintf(dockerfile, "true"))
			branch.run(t, 0, r.image("1")).wantSteps(t, "deps=cc app=cr")
		})
	}
}

// What a killed run left on the engine is saved by another process.
func TestSaveAfterKill(t *testing.T) {
	t.Parallel()
	for _, kind := range rescueKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, kind.kind)
			r.write(t, "src.txt", "source\n")
			r.write(t, "Dockerfile", kind.dockerfile(11, waits))
			state := filepath.Join(t.TempDir(), "state")
			branch := r.on("feat/x").with("--checkpoint", "0")
			p := branch.start(t, r.image("1"), "--state", state, "--progress", "plain")
			p.await(t, "now in the step\n")
			if kind.old {
				awaitState(t, state, completed("RUN sleep 0.2; echo $KEY", "COPY --from=builder /5 /"))
			} else {
				awaitState(t, state, completed("[builder 6/6]", "[stage-2 3/6]"))
			}
			p.kill(t)
			if !kind.old { // the others get the context as a file
				wantNothingLeft(t, r)
			}
			wantAbsent(t, r.image("feat-x-builder"))

			first := r.verb(t, 0, "save", "--state", state)
			first.wantSaid(t, `builder is saved to .*:feat-x-builder$`, `2 is saved to .*-partial`)
			second := r.verb(t, 0, "save", "--state", state)
			second.wantSaid(t, "nothing to save: the build left nothing undone")
			wantImportable(t, r.repo)

			r.engine.Fresh(t)
			r.write(t, "Dockerfile", kind.dockerfile(0, waits))
			again := branch.run(t, 0, r.image("1"))
			again.wantSteps(t, "builder=ccccc test=[cr]{3} 2=ccrrr")
			wantGzip(t, r.image("1"))
		})
	}
}

// A secret's file may be gone by then: a CI deletes it with the build's step.
func TestSaveWithoutTheSecrets(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "Dockerfile", "FROM BASE AS builder\nRUN --mount=type=secret,id=note wc -c </run/secrets/note >/note\nRUN echo now in the step && sleep 600\n")
	secret := filepath.Join(t.TempDir(), "note")
	if err := os.WriteFile(secret, []byte("of mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	p := r.on("feat/x").with("--checkpoint", "0").start(t, r.image("1"), "--state", state, "--progress", "plain", "--secret", "id=note,src="+secret)
	p.await(t, " now in the step\n")
	awaitState(t, state, completed("[builder 2/3]"))
	p.kill(t)
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	r.verb(t, 0, "save", "--state", state).wantSaid(t, `builder is saved to .*`)
}

// An engine that has lost everything is not made to build it again.
func TestSaveOnAnEmptyEngine(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "src.txt", "source\n")
	r.write(t, "Dockerfile", rescueDockerfile(11, waits))
	state := filepath.Join(t.TempDir(), "state")
	p := r.on("feat/x").with("--checkpoint", "0").start(t, r.image("1"), "--state", state, "--progress", "plain")
	p.await(t, " now in the step\n")
	awaitState(t, state, completed("[builder 6/6]", "[stage-2 3/6]"))
	p.kill(t)
	r.engine.Fresh(t)
	r.verb(t, 0, "save", "--state", state).wantSaid(t, "is not saved")
	wantAbsent(t, r.image("feat-x-builder"))
}

// save may always be called.
func TestSaveWithNothingToDo(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "Dockerfile", "FROM BASE\nRUN echo 1 >/1\n")
	r.verb(t, 0, "save", "--state", "none").wantSaid(t, "nothing to save: there is no ")
	r.on("master").run(t, 0, r.image("1"), "--state", "state")
	r.verb(t, 0, "save", "--state", "state").wantSaid(t, "nothing to save: the build left nothing undone")
	r.write(t, "broken", `{"schema":1,"saved":"no"}`)
	r.verb(t, 0, "save", "--state", "broken").wantSaid(t, "nothing was saved: read --state")
	r.verb(t, 64, "save").wantSaid(t, "--state is missing")
}

// verb runs the command with a verb, which takes none of the options of a
// build and writes no report, to its end, which must have this status.
func (r *runner) verb(t *testing.T, status int, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, args...)
	cmd.Dir, cmd.Env = r.dir, r.vars
	said, err := cmd.CombinedOutput()
	o := outcome{args: strings.Join(args, " "), status: cmd.ProcessState.ExitCode(), stderr: string(said)}
	if o.status != status {
		t.Fatalf("%s: exit status %d, want %d (%v)\n%s", o.args, o.status, status, err, said)
	}
	return o
}

// kill ends the process as a lost machine does.
func (p *process) kill(t *testing.T) {
	t.Helper()
	defer p.cancel()
	p.cmd.Process.Kill()
	p.cmd.Wait()
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && !status.Signaled() {
		t.Logf("it had ended by itself with %d", status.ExitStatus())
	}
}

// wantNothingLeft checks that a killed run left no file behind.
func wantNothingLeft(t *testing.T, r *runner) {
	t.Helper()
	for _, variable := range r.vars {
		if dir, ok := strings.CutPrefix(variable, "TMPDIR="); ok {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("the killed run left %v in TMPDIR, %v", left, err)
			}
		}
	}
}

// wantNoProcess checks that no process of a killed run is left: each has the
// run's TMPDIR in its environment.
func wantNoProcess(t *testing.T, r *runner) {
	t.Helper()
	var mark string
	for _, variable := range r.vars {
		if strings.HasPrefix(variable, "TMPDIR=") {
			mark = variable
		}
	}
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || mark == "" {
		t.Fatal(err, mark)
	}
	for _, file := range environments {
		environment, err := os.ReadFile(file)
		if err == nil && bytes.Contains(environment, []byte(mark+"\x00")) {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			t.Errorf("%s is left behind: %q", file, name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), strings.TrimPrefix(mark, "TMPDIR=")) {
		t.Errorf("a mount is left behind (%v)\n%s", err, mounts)
	}
}

// stateFile is what the tests read of a state file.
type stateFile struct {
	Held  []int
	Build struct {
		Names    []string
		Vertices []stateVertex
	}
}

type stateVertex struct{ Running bool }

func readState(t *testing.T, path string) stateFile {
	t.Helper()
	var state stateFile
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &state)
	}
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// heldBy are the lines of the steps that were in the registry by a state file.
func heldBy(t *testing.T, path string) map[int]bool {
	t.Helper()
	held := map[int]bool{}
	for _, line := range readState(t, path).Held {
		held[line] = true
	}
	return held
}

// awaitState blocks until a state file tells what is wanted.
func awaitState(t *testing.T, path string, wanted func(stateFile) bool) {
	t.Helper()
	for deadline := time.Now().Add(runTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil && wanted(readState(t, path)) {
			return
		}
	}
	t.Fatalf("%s does not tell what is wanted", path)
}

// completed is a state that tells of completed steps, by the beginnings of
// their names.
func completed(steps ...string) func(stateFile) bool {
	return func(s stateFile) bool {
		told := strings.Join(s.Build.Names, "\n")
		return !slices.ContainsFunc(steps, func(step string) bool { return !strings.Contains(told, step) })
	}
}
