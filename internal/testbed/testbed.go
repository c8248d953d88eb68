// Package testbed gives tests real engines and a real registry.
//
// It is the Go side of scripts/testbed, which docs/testbed.md describes. A test
// names what it needs and takes the engines it builds with:
//
//	env := testbed.Up(t, testbed.Docker)
//	docker := env.Engine(t, testbed.Docker) // empty, and this test's alone
//	// build FROM env.Base("busybox:latest"), push to env.Repo(t)
//	docker.Fresh(t)                         // the next CI runner
//
// Tests of several packages, which go test runs in parallel, share one testbed;
// locks on the file system keep their engines apart. The registry is shared by
// all, so each test pushes to a repository of its own.
//
// Where a testbed cannot run, tests are skipped. With CI set in the environment
// they fail instead: a CI that skips them proves nothing.
package testbed

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The engines, as [Up] and [Env.Engine] take them.
const (
	Docker    = "docker"    // Docker 20.10, overlay2
	Moby      = "moby"      // Docker 29 with the containerd image store
	BuildKitd = "buildkitd" // BuildKit on its own
	Buildx    = "buildx"    // a buildx builder with driver remote
)

// spares are further engines of a kind, as scripts/testbed calls them: tests
// would wait in a line.
var spares = map[string][]string{Docker: {"docker2"}, BuildKitd: {"buildkitd2", "buildkitd3"}}

// What else [Up] takes. The registry is always there.
const (
	RegistryAuth = "registry-auth" // a registry that wants credentials
	Toxiproxy    = "toxiproxy"     // a failing proxy in front of the registry
)

// Network is the network mode that build steps need: the engines' own bridges
// lead nowhere. It is the default of the two BuildKits and is asked for with
// --network=host or the frontend's force-network-mode on the two Dockers.
const Network = "host"

// bootTimeout covers building every engine from source on a slow machine.
const bootTimeout = 60 * time.Minute

// Env says where everything is. The addresses of services that are not up are
// empty.
type Env struct {
	// Registry is the host:port of a registry with base images, plain http.
	Registry string

	// RegistryAuth is the host:port of the empty registry that wants
	// RegistryAuthUser and RegistryAuthPassword.
	RegistryAuth         string
	RegistryAuthUser     string
	RegistryAuthPassword string

	// Toxiproxy is the URL of toxiproxy's API, in which the proxy "registry"
	// makes the Registry reachable at the host:port ToxiproxyRegistry.
	Toxiproxy         string
	ToxiproxyRegistry string

	dir       string // the testbed's state
	script    string // scripts/testbed
	variables []string
	engines   []string // that are up
}

// An Engine is an engine that one test has for itself.
type Engine struct {
	// Name is one of the constants above.
	Name string
	// Address is a unix:// URL, or the builder's name for Buildx.
	Address string

	env      *Env
	instance string // what scripts/testbed calls it
}

// up holds what this process has brought up already. Up runs the script again
// only for names that are new.
var up struct {
	sync.Mutex
	names []string
	env   *Env
}

// Up starts the testbed with what is named, unless it is up, and returns its
// addresses. What it starts stays up when the test ends: see scripts/testbed.
func Up(t testing.TB, names ...string) *Env {
	t.Helper()
	if err := possible(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("testbed: %v, and CI is set", err)
		}
		t.Skipf("testbed: %v", err)
	}
	names = slices.Clone(names)
	for _, name := range names {
		names = append(names, spares[name]...)
	}
	up.Lock()
	defer up.Unlock()
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.Contains(up.names, name)
	})
	if up.env != nil && len(missing) == 0 {
		return up.env
	}
	env, err := start(t.Context(), slices.Concat(up.names, missing))
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	up.names = append(up.names, missing...)
	up.env = env
	return env
}

// possible explains why no testbed can run here.
func possible() error {
	if runtime.GOOS != "linux" {
		return errors.New("needs Linux")
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("needs Debian's packages")
	}
	if testing.Short() {
		return errors.New("not with -short")
	}
	return nil
}

// start runs scripts/testbed and reads the addresses that it prints.
func start(ctx context.Context, names []string) (*Env, error) {
	script, err := findScript()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	// The registry alone has to be named, or all engines would be started.
	if _, err := run(exec.CommandContext(ctx, script, append([]string{"up", "registry"}, names...)...)); err != nil {
		return nil, err
	}
	// A shell reads the export lines, as it does for a person.
	variables, err := run(exec.CommandContext(ctx, "bash", "-c", `exports=$("$0" env) && eval "$exports" && env -0`, script))
	if err != nil {
		return nil, err
	}
	env := &Env{script: script, variables: strings.Split(strings.TrimSuffix(variables, "\x00"), "\x00")}
	value := func(name string) string {
		for _, variable := range env.variables {
			if value, ok := strings.CutPrefix(variable, name+"="); ok {
				return value
			}
		}
		return ""
	}
	env.dir = value("TESTBED_DIR")
	env.Registry = value("REGISTRY")
	env.RegistryAuth = value("REGISTRY_AUTH")
	env.RegistryAuthUser = value("REGISTRY_AUTH_USER")
	env.RegistryAuthPassword = value("REGISTRY_AUTH_PASSWORD")
	env.Toxiproxy = value("TOXIPROXY")
	env.ToxiproxyRegistry = value("TOXIPROXY_REGISTRY")
	env.engines = names
	return env, nil
}

// findScript looks for scripts/testbed from the working directory upwards: go
// test runs a test in the directory of its package.
func findScript() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		script := filepath.Join(dir, "scripts", "testbed")
		if _, err := os.Stat(script); err == nil {
			return script, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("scripts/testbed is in no parent of the working directory")
		}
		dir = parent
	}
}

// run returns what a command prints, or an error with its complaint.
func run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, stderr.String())
	}
	return stdout.String(), nil
}

// Environ is this process's environment with what scripts/testbed env exports:
// the command-line clients of all engines are in its PATH.
func (e *Env) Environ() []string {
	return slices.Clone(e.variables)
}

// Base is the full name of a base image, such as "debian:bookworm".
func (e *Env) Base(image string) string {
	return e.Registry + "/library/" + image
}

// Repo is the full name of a repository that only this test uses.
func (e *Env) Repo(t testing.TB) string {
	return e.Registry + "/test/" + repositoryName(t.Name()) + "-" + strings.ToLower(rand.Text())[:10]
}

// repositoryName makes a component of a repository's name from a test's.
func repositoryName(test string) string {
	var name strings.Builder
	for _, r := range strings.ToLower(test) {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			name.WriteRune(r)
		case name.Len() > 0 && !strings.HasSuffix(name.String(), "-"):
			name.WriteByte('-')
		}
		if name.Len() == 60 {
			break
		}
	}
	return strings.Trim(name.String(), "-")
}

// Engine waits until no other test uses the engine, empties it and returns it.
// It is the test's until the test ends. Of some there are several, and the test
// gets one that is free. A test that takes several takes them in alphabetical
// order, or two tests could wait for each other for ever.
func (e *Env) Engine(t testing.TB, name string) *Engine {
	t.Helper()
	if !slices.Contains(e.engines, name) {
		t.Fatalf("testbed: %s is not up: name it in testbed.Up", name)
	}
	instances := append([]string{name}, spares[name]...)
	checkOrder(t, name)
	for {
		for _, instance := range instances {
			unlock, err := lock(filepath.Join(e.dir, "lock", "engine-"+instance))
			if err != nil {
				t.Fatalf("testbed: %v", err)
			}
			if unlock == nil {
				continue
			}
			t.Cleanup(unlock)
			engine := &Engine{Name: name, Address: "unix://" + filepath.Join(e.dir, instance+".sock"), env: e, instance: instance}
			if name == Buildx {
				engine.Address = "testbed"
			}
			engine.Fresh(t)
			return engine
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("testbed: no %s is free", name)
		case <-time.After(lockPause):
		}
	}
}

// lockPause is how often an engine that is free is looked for.
const lockPause = 50 * time.Millisecond

// Fresh replaces the engine by an empty one at the same address, which is what
// a new CI runner has. Builds that run on it die.
func (e *Engine) Fresh(t testing.TB) {
	t.Helper()
	if _, err := run(exec.CommandContext(t.Context(), e.env.script, "fresh", e.instance)); err != nil {
		t.Fatalf("testbed: %v", err)
	}
}

// taken holds the names of the engines that a running test has.
var taken struct {
	sync.Mutex
	names map[testing.TB][]string
}

func checkOrder(t testing.TB, name string) {
	t.Helper()
	taken.Lock()
	defer taken.Unlock()
	if names := taken.names[t]; len(names) > 0 && names[len(names)-1] >= name {
		t.Fatalf("testbed: take engine %s before %s", name, names[len(names)-1])
	}
	if taken.names == nil {
		taken.names = map[testing.TB][]string{}
	}
	taken.names[t] = append(taken.names[t], name)
	t.Cleanup(func() {
		taken.Lock()
		defer taken.Unlock()
		delete(taken.names, t)
	})
}

// Pushed are the files of all manifests, configs and layers that were ever
// pushed to a repository, whether a tag leads to them or not.
func (e *Env) Pushed(t testing.TB, repo string) []string {
	t.Helper()
	root := filepath.Join(e.dir, "registry", "docker", "registry", "v2")
	var files []string
	for _, kind := range []string{"_layers", filepath.Join("_manifests", "revisions")} {
		links, err := filepath.Glob(filepath.Join(root, "repositories", strings.TrimPrefix(repo, e.Registry+"/"), kind, "sha256", "*", "link"))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			hex := filepath.Base(filepath.Dir(link))
			file := filepath.Join(root, "blobs", "sha256", hex[:2], hex, "data")
			if _, err := os.Stat(file); err == nil { // else it was deleted
				files = append(files, file)
			}
		}
	}
	if len(files) == 0 {
		t.Fatalf("testbed: nothing was pushed to %s", repo)
	}
	return files
}
