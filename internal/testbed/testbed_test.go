package testbed

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
)

// runStep is an instruction and stepRan finds what it prints in plain progress.
// "CACHED" says less: a hit whose layer is pulled later is shown without it.
const runStep = "RUN echo it-ran | tee /run-step\n"

var stepRan = regexp.MustCompile(`(?m)^#\d+ [\d.]+ it-ran`)

// builder returns the command line that builds the current directory with an
// engine, as one would type it after eval "$(scripts/testbed env)".
func builder(engine *Engine, exporting ...string) (argv, environ []string) {
	environ = append(engine.env.Environ(), "DOCKER_BUILDKIT=1", "BUILDKIT_PROGRESS=plain")
	if engine.Name == Docker || engine.Name == Moby {
		environ = append(environ, "DOCKER_HOST="+engine.Address)
	}
	switch engine.Name {
	case Docker:
		return append([]string{"docker", "build", "--network", Network, "."}, exporting...), environ
	case Moby:
		argv = []string{"docker", "buildx", "build", "--network", Network, "."}
		return append(argv, exporting...), environ
	case Buildx:
		return append([]string{"docker", "buildx", "build", "--builder", engine.Address, "."}, exporting...), environ
	default:
		for i, argument := range exporting {
			exporting[i] = strings.NewReplacer("--cache-to", "--export-cache", "--cache-from", "--import-cache").Replace(argument)
		}
		argv = []string{
			"buildctl", "--addr", engine.Address, "build", "--progress", "plain",
			"--frontend", "dockerfile.v0", "--local", "context=.", "--local", "dockerfile=.",
		}
		return append(argv, exporting...), environ
	}
}

// build builds dockerfile with an engine and returns the progress.
func build(t *testing.T, engine *Engine, dockerfile string, exporting ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	argv, environ := builder(engine, exporting...)
	var path string
	for _, variable := range environ {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	// The commands are found in the testbed's PATH, which is not this process's.
	cmd := exec.CommandContext(t.Context(), "/usr/bin/env", append([]string{"PATH=" + path}, argv...)...)
	cmd.Dir, cmd.Env = dir, environ
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, output)
	}
	return string(output)
}

func TestFreshEngineHasNothing(t *testing.T) {
	env := Up(t, Docker, Moby, BuildKitd, Buildx)
	dockerfile := "FROM " + env.Base("busybox:latest") + "\n" + runStep
	for _, name := range []string{Docker, Moby, BuildKitd, Buildx} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engine := env.Engine(t, name)
			if progress := build(t, engine, dockerfile); !stepRan.MatchString(progress) {
				t.Errorf("the first build on an empty engine runs nothing:\n%s", progress)
			}
			if progress := build(t, engine, dockerfile); stepRan.MatchString(progress) {
				t.Errorf("the second build runs the step again:\n%s", progress)
			}
			engine.Fresh(t)
			if progress := build(t, engine, dockerfile); !stepRan.MatchString(progress) {
				t.Errorf("the first build after Fresh runs nothing:\n%s", progress)
			}
		})
	}
}

func TestRegistryCacheCrossesEngines(t *testing.T) {
	env := Up(t, Buildx, BuildKitd, Moby)
	dockerfile := "FROM " + env.Base("busybox:latest") + "\n" + runStep
	for _, name := range []string{Buildx, BuildKitd, Moby} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := "type=registry,ref=" + env.Repo(t) + ":cache"
			engine := env.Engine(t, name)
			build(t, engine, dockerfile, "--cache-to", cache+",mode=max")
			engine.Fresh(t)
			if progress := build(t, engine, dockerfile, "--cache-from", cache); stepRan.MatchString(progress) {
				t.Errorf("a fresh engine does not use the registry's cache:\n%s", progress)
			}
		})
	}
}

// A step that still runs must not survive the engine.
func TestFreshEndsRunningSteps(t *testing.T) {
	env := Up(t, BuildKitd)
	engine := env.Engine(t, BuildKitd)
	marker := "31" + strings.Map(onlyDigits, env.Repo(t)) + "7"
	dir := t.TempDir()
	dockerfile := "FROM " + env.Base("busybox:latest") + "\nRUN sleep " + marker + "\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	argv, environ := builder(engine)
	cmd := exec.CommandContext(t.Context(), filepath.Join(env.dir, "tools", argv[0]), argv[1:]...)
	cmd.Dir, cmd.Env = dir, environ
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running := func() bool { return exec.Command("pgrep", "-f", "^sleep "+marker).Run() == nil }
	waitUntil(t, "the step runs", running)
	engine.Fresh(t)
	if err := cmd.Wait(); err == nil {
		t.Error("the build succeeded")
	}
	waitUntil(t, "the step is gone", func() bool { return !running() })
}

func onlyDigits(r rune) rune {
	if '0' <= r && r <= '9' {
		return r
	}
	return -1
}

func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s until %s", what)
		}
	}
}

// docker buildx dial-stdio is how a client reaches a builder of any driver.
func TestBuildxDialStdio(t *testing.T) {
	env := Up(t, Buildx)
	engine := env.Engine(t, Buildx)
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		ours, childs := net.Pipe()
		cmd := exec.CommandContext(ctx, filepath.Join(env.dir, "bin", "docker"), "buildx", "dial-stdio", "--builder", engine.Address)
		cmd.Env, cmd.Stdin, cmd.Stdout = env.Environ(), childs, childs
		return ours, cmd.Start()
	}
	c, err := client.New(t.Context(), "", client.WithContextDialer(dial))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	workers, err := c.ListWorkers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(workers) != 1 {
		t.Errorf("the builder has %d workers, want 1", len(workers))
	}
}

func TestRegistryAuthWantsCredentials(t *testing.T) {
	env := Up(t, RegistryAuth)
	get := func(user, password string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+env.RegistryAuth+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(user, password)
		return status(t, request)
	}
	if got := get("nobody", "wrong"); got != http.StatusUnauthorized {
		t.Errorf("wrong credentials: status %d, want 401", got)
	}
	if got := get(env.RegistryAuthUser, env.RegistryAuthPassword); got != http.StatusOK {
		t.Errorf("right credentials: status %d, want 200", got)
	}
}

func TestToxiproxyLeadsToTheRegistry(t *testing.T) {
	env := Up(t, Toxiproxy)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		"http://"+env.ToxiproxyRegistry+"/v2/library/busybox/manifests/latest", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	if got := status(t, request); got != http.StatusOK {
		t.Errorf("status %d, want 200", got)
	}
}

func status(t *testing.T, request *http.Request) int {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(path)
	if err != nil || unlock == nil {
		t.Fatalf("a free lock is not to be had (%v)", err)
	}
	if second, err := lock(path); err != nil || second != nil {
		t.Errorf("a second lock is there at once (%v)", err)
	}
	unlock()
	if unlock, err = lock(path); err != nil || unlock == nil {
		t.Fatalf("the lock is not to be had again (%v)", err)
	}
	unlock()
}

func TestRepoIsUnique(t *testing.T) {
	env := &Env{Registry: "127.0.0.1:5000"}
	first, second := env.Repo(t), env.Repo(t)
	if first == second {
		t.Errorf("two tests get the repository %s", first)
	}
	if want := "127.0.0.1:5000/test/testrepoisunique-"; !strings.HasPrefix(first, want) {
		t.Errorf("repository %s does not begin with %s", first, want)
	}
}

func TestRepositoryName(t *testing.T) {
	for test, want := range map[string]string{
		"TestX":                   "testx",
		"TestX/a_b (1)":           "testx-a-b-1",
		"Test/--":                 "test",
		strings.Repeat("ab/", 40): strings.Repeat("ab-", 20)[:59],
	} {
		if got := repositoryName(test); got != want {
			t.Errorf("repositoryName(%q) = %q, want %q", test, got, want)
		}
	}
}

// The life of a testbed beside the one that the other tests use.
func TestLifecycle(t *testing.T) {
	shared := Up(t, BuildKitd)
	dir := filepath.Join(t.TempDir(), "testbed")
	testbed := func(arguments ...string) string {
		cmd := exec.CommandContext(t.Context(), shared.script, arguments...)
		cmd.Env = append(os.Environ(), "TESTBED_DIR="+dir)
		output, err := run(cmd)
		if err != nil {
			t.Error(err)
		}
		return output
	}
	t.Cleanup(func() {
		cmd := exec.Command(shared.script, "down", "--purge")
		cmd.Env = append(os.Environ(), "TESTBED_DIR="+dir)
		if _, err := run(cmd); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("down --purge left %s", dir)
		}
	})

	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { testbed("up", BuildKitd, Docker) })
	}
	both.Wait()
	before := testbed("env")
	for _, name := range []string{BuildKitd, Docker, "registry"} {
		if !strings.Contains(testbed("status"), name+" up") {
			t.Errorf("%s is not up after two concurrent runs of up", name)
		}
	}

	// An engine that died is started again, and its process id, if it is another
	// process's by now, is left alone: this test would not survive that.
	record := filepath.Join(dir, "run", BuildKitd)
	process, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("kill", "-KILL", strings.Fields(string(process))[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	waitUntil(t, "the killed engine is down", func() bool { return strings.Contains(testbed("status"), BuildKitd+" down") })
	if err := os.WriteFile(record, fmt.Appendf(nil, "%d 1\n", os.Getpid()), 0o644); err != nil {
		t.Fatal(err)
	}
	testbed("up", BuildKitd)
	if !strings.Contains(testbed("status"), BuildKitd+" up") {
		t.Error("up does not start an engine again that was killed")
	}

	testbed("down")
	if strings.Contains(testbed("status"), " up") {
		t.Error("something is up after down")
	}
	testbed("up", BuildKitd, Docker)
	if after := testbed("env"); after != before {
		t.Errorf("addresses changed:\n%s\nwere:\n%s", after, before)
	}
}
