//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

var (
	repeats   = flag.Int("n", 3, "how often each build is measured")
	only      = flag.String("peers", "", "measure only the peers whose names this regular expression matches")
	onlyThese = flag.String("scenarios", "", "measure only the scenarios whose names this regular expression matches; those of one history need each other")
	writeDocs = flag.Bool("write", false, "write docs/benchmarks.md")
	keep      = flag.String("keep", "", "directory in which to keep outputs and reports")
)

// buildTimeout bounds one build.
const buildTimeout = 15 * time.Minute

// scenario is one build on an empty engine. Those with the same history follow
// each other in one repository.
type scenario struct {
	name    string
	history string
	branch  string
	edited  bool // one file differs from the build before
	broken  bool // the last step fails
}

const (
	cold       = "cold"
	noChange   = "no change"
	oneFile    = "one file changed"
	newBranch  = "new branch, one file changed"
	failedLast = "failed at the last step"
	thenFixed  = "then fixed"
)

var scenarios = []scenario{
	{name: cold, history: "a", branch: "master"},
	{name: noChange, history: "a", branch: "master"},
	{name: oneFile, history: "a", branch: "master", edited: true},
	{name: newBranch, history: "a", branch: "feature", edited: true},
	{name: failedLast, history: "b", branch: "master", broken: true},
	{name: thenFixed, history: "b", branch: "master"},
}

var goals = []goal{
	{"no change: at least 20 times faster than the recipe", recipe, noChange, 20, thisTool, noChange},
	{"no change: no slower than buildx", buildx, noChange, 1, thisTool, noChange},
	{"one file changed: at least 1.3 times faster than buildx", buildx, oneFile, 1.3, thisTool, oneFile},
	{"cold: at most 1.25 times buildx without a cache", plain, cold, 1 / 1.25, thisTool, cold},
	{"checkpoints: at most 5 % of a build that succeeds", noCheckpoints, cold, 1 / 1.05, thisTool, cold},
	{"failed, then fixed: at least 4 times faster than buildx", buildx, thenFixed, 4, thisTool, thenFixed},
}

// bench is one run of the benchmark.
type bench struct {
	env       *testbed.Env
	meter     *meter
	registry  string // the meter's host:port
	state     string // the testbed's directory
	environ   []string
	args      []string // of every build
	engines   map[string]*testbed.Engine
	directory string // for contexts, outputs and reports
}

func TestBench(t *testing.T) {
	b := start(t)
	r := &results{}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	var measured []peer
	for _, p := range peers(compile(t, b.directory), b.directory) {
		if wanted.MatchString(p.name) {
			measured = append(measured, p)
			r.peers = append(r.peers, p.name)
		}
	}
	chosen, err := regexp.Compile(*onlyThese)
	if err != nil {
		t.Fatal(err)
	}
	tried := slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool { return !chosen.MatchString(s.name) })
	for _, s := range tried {
		r.scenarios = append(r.scenarios, s.name)
	}
	loadBefore := load()
	for round := range *repeats {
		for number, s := range tried {
			for _, p := range measured {
				if p.only != nil && !slices.Contains(p.only, s.name) {
					continue
				}
				m := b.measure(t, p, s, round, number)
				r.measured = append(r.measured, m)
				fmt.Printf("%d/%d  %-28s  %-24s  %7.2f s  %6.2f processor s  %6.1f MB to, %6.1f MB from the registry, %d requests\n", round+1, *repeats,
					s.name, p.name, m.elapsed.Seconds(), m.processor.Seconds(), float64(m.moved.sent)/1e6, float64(m.moved.received)/1e6, m.moved.requests)
			}
			// After each scenario, so that a run that is stopped is not lost.
			text := builds(r, round+1, fmt.Sprintf("load average %s before, %s after", loadBefore, load()))
			publish(t, "builds", text, round+1 == *repeats && number+1 == len(tried))
		}
		slices.Reverse(measured) // nobody is always first
	}
}

// start brings up engines, the meter in front of the registry, and mirrors of
// what the builds download.
func start(t *testing.T) *bench {
	// The disk of a machine that has just built something takes anything
	// between one and three times as long to unpack a layer.
	t.Setenv("TESTBED_MEMORY", "yes")
	b := &bench{env: testbed.Up(t, testbed.BuildKitd, testbed.Buildx, testbed.Docker), directory: *keep}
	if b.directory == "" {
		b.directory = t.TempDir()
	}
	b.engines = map[string]*testbed.Engine{}
	for _, name := range []string{testbed.BuildKitd, testbed.Buildx, testbed.Docker} {
		b.engines[name] = b.env.Engine(t, name)
	}
	b.environ = append(b.env.Environ(), "DOCKER_HOST="+b.engines[testbed.Docker].Address, "BUILDKIT_HOST="+b.engines[testbed.BuildKitd].Address)
	for _, variable := range b.environ {
		if dir, ok := strings.CutPrefix(variable, "TESTBED_DIR="); ok {
			b.state = dir
		}
	}

	b.meter = newMeter(&url.URL{Scheme: "http", Host: b.env.Registry})
	b.registry = serve(t, b.meter)
	modules := serve(t, http.FileServer(http.Dir(downloadModules(t))))
	packages, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	packages = filepath.Join(packages, "docker-build-remote-cache", "packages")
	if err := os.MkdirAll(packages, 0o755); err != nil {
		t.Fatal(err)
	}
	debian := serve(t, newMirror(packages, t.TempDir()))
	b.args = []string{
		"--build-arg", "BASE=" + b.registry + "/library",
		"--build-arg", "GOPROXY=http://" + modules,
		"--build-arg", "http_proxy=http://" + debian, // in no cache key
	}
	return b
}

// serve listens on loopback for the rest of the test.
func serve(t *testing.T, handler http.Handler) (address string) {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().(*net.TCPAddr).String()
}

// downloadModules fetches the project's modules to this machine and returns the
// directory in which the go command keeps them as a GOPROXY serves them.
func downloadModules(t *testing.T) string {
	goCommand(t, "-C", "project", "mod", "download")
	return filepath.Join(goCommand(t, "env", "GOMODCACHE"), "cache", "download")
}

func compile(t *testing.T, dir string) string {
	binary := filepath.Join(dir, "docker-build-remote-cache")
	t.Setenv("CGO_ENABLED", "0") // as it is released: it also runs inside cache mounts
	goCommand(t, "build", "-trimpath", "-o", binary, "../cmd/docker-build-remote-cache")
	return binary
}

func goCommand(t *testing.T, args ...string) string {
	output, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

// measure lets one peer build one scenario on an empty engine.
func (b *bench) measure(t *testing.T, p peer, s scenario, round, number int) measurement {
	history := fmt.Sprintf("%s-%d-%s", strings.NewReplacer(" ", "-", ",", "").Replace(p.name), round, s.history)
	job := build{
		repository: b.registry + "/bench/" + history + "-" + stamp,
		branch:     s.branch, dir: b.context(t, s, history, round, number), args: b.args, number: number,
	}
	b.engines[p.engine].Fresh(t)
	syscall.Sync() // what the registry wrote meanwhile
	cmd := p.command(job)
	before, used := b.meter.read(), b.daemons(t, p.engine)
	elapsed := b.run(t, history+"-"+fmt.Sprint(number), s.broken, cmd)
	return measurement{
		peer: p.name, scenario: s.name, elapsed: elapsed, moved: b.meter.read().since(before),
		processor: b.daemons(t, p.engine) - used + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
	}
}

// daemons is what an engine and the registry have used of the processors.
func (b *bench) daemons(t *testing.T, engine string) time.Duration {
	var total time.Duration
	for _, name := range []string{engine, "registry"} {
		// The process that scripts/testbed has started: of an engine, the
		// parent of its namespace's first.
		record, err := os.ReadFile(filepath.Join(b.state, "run", name))
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Sscan(string(record), &pid); err != nil {
			t.Fatal(err)
		}
		used, err := processorTime(pid)
		if name == engine {
			var first []byte
			if first, err = os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid)); err == nil {
				if _, err = fmt.Sscan(string(first), &pid); err == nil {
					used, err = namespaceTime(pid)
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		total += used
	}
	return total
}

// stamp sets this run's repositories apart from those of earlier ones.
var stamp = time.Now().UTC().Format("20060102150405")

// run runs a command to its end, which must be a failure just if the command
// is to fail, and returns how long it took. name is that of its log.
func (b *bench) run(t *testing.T, name string, fails bool, cmd *exec.Cmd) time.Duration {
	t.Helper()
	cmd.Env = append(slices.Clone(b.environ), cmd.Env...)
	output, err := os.Create(filepath.Join(b.directory, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	started := time.Now()
	err = wait(t.Context(), cmd)
	elapsed := time.Since(started)
	if (err != nil) != fails {
		text, _ := os.ReadFile(output.Name())
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	return elapsed
}

func wait(ctx context.Context, cmd *exec.Cmd) error {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	return cmd.Wait()
}

// context is a copy of the project as it is in a scenario.
func (b *bench) context(t *testing.T, s scenario, history string, round, number int) string {
	dir := filepath.Join(t.TempDir(), history)
	if err := os.CopyFS(dir, os.DirFS("project")); err != nil {
		t.Fatal(err)
	}
	if s.edited {
		replace(t, filepath.Join(dir, "release.go"), `"1"`, fmt.Sprintf("%q", fmt.Sprint(round, ".", number)))
	}
	if s.broken {
		replace(t, filepath.Join(dir, "Dockerfile"), "pagetext --check", "pagetext --chekc")
	}
	return dir
}

func replace(t *testing.T, file, from, to string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), from, to, 1)
	if changed == string(text) {
		t.Fatalf("%s has no %s", file, from)
	}
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
}
