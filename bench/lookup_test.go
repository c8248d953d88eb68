//go:build bench

package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// What TestLookup looks up: every stage is found on every level.
const (
	lookupStages  = 50
	lookupLatency = 40 * time.Millisecond // of every answer
)

// TestLookup measures how long it takes to find and merge the caches of many
// stages on all levels, in a registry that is far away.
func TestLookup(t *testing.T) {
	env := testbed.Up(t, testbed.BuildKitd, testbed.Toxiproxy)
	b := &bench{env: env, environ: env.Environ(), directory: *keep}
	if b.directory == "" {
		b.directory = t.TempDir()
	}
	b.meter = newMeter(&url.URL{Scheme: "http", Host: env.Registry})
	engine := env.Engine(t, testbed.BuildKitd)
	b.environ = append(b.environ, "BUILDKIT_HOST="+engine.Address)
	near := serve(t, b.meter)
	far := distant(t, env.Toxiproxy, near)
	tool := compile(t, b.directory)
	repository := "/bench/lookup-" + stamp

	// Each branch has its own content: its cache is no other's.
	for _, branch := range []string{"master", "develop", "feature"} {
		b.lookUp(t, tool, near+repository, branch)
	}
	var r results
	r.peers, r.scenarios = []string{thisTool}, []string{"look-up and merge"}
	for range *repeats {
		engine.Fresh(t)
		r.measured = append(r.measured, b.lookUp(t, tool, far+repository, "feature"))
	}
	var w strings.Builder
	sample := r.sample(thisTool, r.scenarios[0])
	middle := sample[len(sample)/2]
	fmt.Fprintf(&w, "%d stages on 4 levels, a registry that answers %s late, %d measurements:\n\n", lookupStages, lookupLatency, *repeats)
	fmt.Fprint(&w, "| | seconds | in latencies | requests of the whole run |\n|---|---:|---:|---:|\n")
	fmt.Fprintf(&w, "| %s | **%.2f** (%.2f-%.2f) | %.1f | %d |\n", r.scenarios[0], middle.elapsed.Seconds(),
		sample[0].elapsed.Seconds(), sample[len(sample)-1].elapsed.Seconds(),
		middle.elapsed.Seconds()/lookupLatency.Seconds(), middle.moved.requests)
	publish(t, "lookup", w.String(), true)
}

// lookUp builds many stages and returns how long their look-up took.
func (b *bench) lookUp(t *testing.T, tool, repository, branch string) measurement {
	dir := t.TempDir()
	var dockerfile strings.Builder
	for stage := range lookupStages {
		fmt.Fprintf(&dockerfile, "FROM %s/library/busybox:latest AS stage-%d\nCOPY same /%[2]d/\nCOPY branch /%[2]d/\n", b.env.Registry, stage)
	}
	report := filepath.Join(b.directory, "lookup-"+branch+".json")
	for name, content := range map[string]string{"Dockerfile": dockerfile.String(), "same": "same", "branch": branch} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := b.meter.read()
	b.run(t, "lookup-"+branch, false, exec.Command(tool, repository+":commit", "--branch", branch,
		"--base-branch", "develop", "--default-branch", "master", "--report", report, dir))
	m := measurement{peer: thisTool, scenario: "look-up and merge", moved: b.meter.read().since(before)}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var told struct {
		Phases []struct {
			Name    string
			Seconds float64
		}
	}
	if err := json.Unmarshal(text, &told); err != nil {
		t.Fatal(err)
	}
	for _, phase := range told.Phases {
		if phase.Name == "lookup" {
			m.elapsed = time.Duration(phase.Seconds * float64(time.Second))
		}
	}
	return m
}

// distant puts a service behind a latency and returns where it is then.
func distant(t *testing.T, toxiproxy, service string) (address string) {
	post := func(path string, body any) (answer struct{ Listen string }) {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.Post(toxiproxy+path, "application/json", bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode >= http.StatusMultipleChoices {
			t.Fatalf("toxiproxy: %s, %v", response.Status, err)
		}
		return answer
	}
	name := "bench-" + stamp
	address = post("/proxies", map[string]any{"name": name, "listen": "127.0.0.1:0", "upstream": service, "enabled": true}).Listen
	post("/proxies/"+name+"/toxics", map[string]any{"type": "latency", "attributes": map[string]any{"latency": lookupLatency.Milliseconds()}})
	t.Cleanup(func() {
		request, err := http.NewRequest(http.MethodDelete, toxiproxy+"/proxies/"+name, nil)
		if err != nil {
			t.Error(err)
			return
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		response.Body.Close()
	})
	return address
}
