package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// What the runners of GitHub and Azure send to a step that is cancelled:
// SIGINT, 7.5 s later SIGTERM, 2.5 s later SIGKILL (actions/runner
// ProcessInvoker.cs; azure-pipelines-agent has the same).
const (
	runnerTerm = 7500 * time.Millisecond
	runnerKill = 2500 * time.Millisecond
)

var runners = map[string][]string{
	"github": {"GITHUB_ACTIONS=true", "GITHUB_REF=refs/heads/feat/x", "GITHUB_REF_NAME=feat/x", "GITHUB_REF_TYPE=branch", "GITHUB_EVENT_NAME=push"},
	"azure":  {"TF_BUILD=True", "BUILD_SOURCEBRANCH=refs/heads/feat/x"},
}

// A registry so slow that the rescue does not fit into what a runner leaves:
// the process ends in time by itself, and save completes it from the step
// that always runs.
func TestRunnerCancelsOverSlowRegistry(t *testing.T) {
	t.Parallel()
	for name, variables := range runners {
		if name != "github" && !soaking() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := onBuildKit(t)
			slow := *r
			slow.vars = append(append([]string{}, r.vars...), variables...)
			var hasten func()
			slow.repo, hasten = r.behindSlowLink(t, 1024)
			branch := slow.with("--default-branch", "master")
			r.write(t, "Dockerfile", "FROM BASE AS deps\nRUN head -c 20000000 /dev/urandom >/blob\nFROM deps\nRUN echo 2 >/2\nRUN echo now in the step && sleep 120\n")
			state := filepath.Join(t.TempDir(), "state")
			p := branch.start(t, branch.image("1"), "--state", state, "--progress", "plain", "--checkpoint", "0")
			p.await(t, " now in the step\n")
			p.cancelAsRunner(t)
			canceled := p.wait(t)
			if canceled.status != 130 {
				t.Fatalf("exit status %d, want 130\n%s", canceled.status, canceled.stderr)
			}
			canceled.wantSteps(t, "deps=r 1=rx")
			canceled.wantSaid(t, `^cache lost, not saved to .*not done within 8.5s of the signal`,
				`^remote-cache: what was not saved is left on the engine; .* save --state `)
			wantAbsent(t, r.image("feat-x-deps"))

			hasten()
			branch.verb(t, 0, "save", "--state", state).wantSaid(t, `deps is saved to .*:feat-x-deps`, `1 is saved to .*-partial-`)

			r.engine.Fresh(t)
			r.write(t, "Dockerfile", "FROM BASE AS deps\nRUN head -c 20000000 /dev/urandom >/blob\nFROM deps\nRUN echo 2 >/2\nRUN true\n")
			r.on("feat/x").run(t, 0, r.image("1")).wantSteps(t, "deps=c 1=cr")
			wantGzip(t, r.image("1"))
		})
	}
}

// A second signal ends the process at once.
func TestSecondSignal(t *testing.T) {
	r := onBuildKit(t)
	slow := *r
	slow.repo, _ = r.behindSlowLink(t, 100)
	r.write(t, "Dockerfile", "FROM BASE\nRUN head -c 20000000 /dev/urandom >/blob\nRUN echo now in the step && sleep 120\n")
	p := slow.on("feat/x").start(t, slow.image("1"), "--progress", "plain", "--checkpoint", "0")
	p.signal(t, " now in the step\n", syscall.SIGTERM)
	p.await(t, "exporting cache")
	p.signal(t, "", syscall.SIGTERM)
	if o := p.wait(t); o.status != 143 {
		t.Errorf("exit status %d, want 143\n%s", o.status, o.stderr)
	}
}

// cancelAsRunner sends what a runner does, as long as the process lives.
func (p *process) cancelAsRunner(t *testing.T) {
	t.Helper()
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended })
	pid := p.cmd.Process
	go func() {
		defer close(ended)
		pid.Signal(syscall.SIGINT)
		time.Sleep(runnerTerm)
		pid.Signal(syscall.SIGTERM)
		time.Sleep(runnerKill)
		pid.Kill() // of a process that was waited for, this does nothing
	}()
}

// behindSlowLink is the runner's repository behind a proxy of this test's own,
// which takes up no more than so many KB/s until the link is hastened.
func (r *runner) behindSlowLink(t *testing.T, rate int) (repo string, hasten func()) {
	t.Helper()
	env := testbed.Up(t, testbed.Toxiproxy)
	ask := func(method, path string, body any) map[string]any {
		t.Helper()
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), method, env.Toxiproxy+path, bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var got map[string]any
		if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || answer.StatusCode >= 400 {
			t.Fatalf("toxiproxy: %s %s: %s %v %v", method, path, answer.Status, got, err)
		}
		return got
	}
	name := "slow-" + filepath.Base(r.repo)
	proxy := ask(http.MethodPost, "/proxies", map[string]any{"name": name, "listen": "127.0.0.1:0", "upstream": env.Registry})
	toxic := ask(http.MethodPost, "/proxies/"+name+"/toxics", map[string]any{
		"type": "bandwidth", "stream": "upstream", "attributes": map[string]any{"rate": rate},
	})
	t.Cleanup(func() {
		request, _ := http.NewRequest(http.MethodDelete, env.Toxiproxy+"/proxies/"+name, nil)
		if answer, err := http.DefaultClient.Do(request); err == nil {
			answer.Body.Close()
		}
	})
	hasten = func() {
		ask(http.MethodPost, fmt.Sprintf("/proxies/%s/toxics/%s", name, toxic["name"]), map[string]any{
			"attributes": map[string]any{"rate": 1 << 20},
		})
	}
	return fmt.Sprint(proxy["listen"]) + r.repo[len(env.Registry):], hasten
}
