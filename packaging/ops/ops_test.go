// Package ops_test builds the ops image and runs the laptop's command line
// (docs/laptop.md) with it, against what a CI runner has built and the other
// way round.
package ops_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/vendorschema"
)

// laptop is a machine with Docker, a checkout and the ops image.
type laptop struct {
	env     []string
	engine  *testbed.Engine
	image   string // the ops image, as a file that docker load takes
	program string
	project string
}

func newLaptop(t *testing.T) (*laptop, *testbed.Env) {
	t.Helper()
	env := testbed.Up(t, testbed.Docker)
	l := &laptop{engine: env.Engine(t, testbed.Docker), project: t.TempDir()}
	l.env = append(env.Environ(), "DOCKER_HOST="+l.engine.Address, "DOCKER_BUILDKIT=1", "BUILDKIT_HOST=")
	binaries := t.TempDir() // as goreleaser lays them out
	l.program = filepath.Join(binaries, "linux", "amd64", "docker-build-remote-cache")
	l.run(t, vendorschema.Root(), "go", "build", "-o", l.program, "./cmd/docker-build-remote-cache")

	// In place of Docker's own image: its client and buildx of the testbed.
	client := t.TempDir()
	for _, name := range []string{"docker", "buildx"} {
		path := strings.TrimSpace(l.run(t, client, "sh", "-c", "command -v "+name))
		l.run(t, client, "cp", "--dereference", path, filepath.Join(client, name))
	}
	l.write(t, client, "Dockerfile", "FROM "+env.Base("busybox:latest")+`
COPY docker /usr/local/bin/docker
COPY buildx /usr/local/libexec/docker/cli-plugins/docker-buildx
`)
	l.run(t, client, "docker", "build", "--tag", "docker-cli", ".")
	l.run(t, vendorschema.Root(), "docker", "build", "--tag", "ops", "--network", testbed.Network,
		"--build-arg", "BASE="+env.Base("debian:bookworm"), "--build-arg", "DOCKER=docker-cli", "--build-arg", "TARGETPLATFORM=linux/amd64",
		"--file", "packaging/ops/Dockerfile", binaries)
	// What CircleCI and the orbs of docs/circleci.md call.
	l.run(t, ".", "docker", "run", "--rm", "--network", testbed.Network, "ops",
		"sh", "-ec", "for program in bash curl docker git gzip ssh tar unzip; do command -v $program; done")
	l.image = filepath.Join(t.TempDir(), "ops.tar")
	l.run(t, ".", "docker", "save", "--output", l.image, "ops")

	l.write(t, l.project, "Dockerfile", "FROM "+env.Base("busybox:latest")+` AS builder
COPY source /source
RUN cat /source >/built
FROM `+env.Base("busybox:latest")+`
COPY --from=builder /built /
`)
	l.write(t, l.project, "source", "one\n")
	l.run(t, l.project, "git", "init", "--quiet", "--initial-branch=feat/x")
	l.run(t, l.project, "git", "add", "--all")
	l.run(t, l.project, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message=start")
	// A checkout on a laptop is not root's, whom the container runs as.
	l.run(t, l.project, "chown", "--recursive", "1000:1000", ".")
	return l, env
}

func (l *laptop) write(t *testing.T, folder, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run runs a command and returns its output.
func (l *laptop) run(t *testing.T, folder string, command ...string) string {
	t.Helper()
	path := command[0]
	for _, variable := range l.env {
		if list, ok := strings.CutPrefix(variable, "PATH="); ok {
			for _, folder := range filepath.SplitList(list) {
				if _, err := os.Stat(filepath.Join(folder, path)); err == nil && !strings.Contains(path, "/") {
					path = filepath.Join(folder, path)
				}
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Dir, cmd.Env = folder, l.env
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", command, err, output)
	}
	return string(output)
}

// inCI builds as a CI runner does: with the program, on an empty engine.
func (l *laptop) inCI(t *testing.T, image string) string {
	t.Helper()
	l.engine.Fresh(t)
	report := filepath.Join(t.TempDir(), "report.json")
	l.run(t, l.project, l.program, "--network="+testbed.Network, "--branch=feat/x", "--report="+report, image)
	return report
}

// here runs the line of docs/laptop.md, on an engine that holds the ops image
// alone. The container shares the machine's network, where the registry is.
func (l *laptop) here(t *testing.T, image string) string {
	t.Helper()
	l.engine.Fresh(t)
	l.run(t, ".", "docker", "load", "--input", l.image)
	reports := t.TempDir()
	config := filepath.Join(t.TempDir(), "config.json")
	l.write(t, filepath.Dir(config), "config.json", "{}")
	l.run(t, l.project, "docker", "run", "--rm", "--network", testbed.Network,
		"--volume", strings.TrimPrefix(l.engine.Address, "unix://")+":/var/run/docker.sock",
		"--volume", config+":/root/.docker/config.json:ro",
		"--volume", l.project+":/build:ro",
		"--workdir", "/build",
		"--volume", reports+":/reports",
		"ops", "docker-build-remote-cache", "--network="+testbed.Network, "--report=/reports/report.json", image)
	return filepath.Join(reports, "report.json")
}

// steps counts the steps of a report, and those that were cached.
func steps(t *testing.T, report string) (branch string, cached, all int) {
	t.Helper()
	content, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Branch string
		Stages []struct{ Steps []struct{ Status string } }
	}
	if err := json.Unmarshal(content, &r); err != nil {
		t.Fatal(err)
	}
	for _, stage := range r.Stages {
		for _, step := range stage.Steps {
			all++
			if step.Status == "cached" {
				cached++
			}
		}
	}
	return r.Branch, cached, all
}

func TestLaptopAndCIShareTheirCaches(t *testing.T) {
	l, env := newLaptop(t)
	image := env.Repo(t) + ":built"

	if _, cached, all := steps(t, l.inCI(t, image)); all == 0 || cached != 0 {
		t.Errorf("CI, cold: %d of %d steps were cached", cached, all)
	}
	branch, cached, all := steps(t, l.here(t, image))
	if branch != "feat/x" {
		t.Errorf("the branch of the mounted checkout is %q", branch)
	}
	if all == 0 || cached != all {
		t.Errorf("here, after CI: %d of %d steps were cached", cached, all)
	}

	l.write(t, l.project, "source", "two\n")
	if _, cached, all := steps(t, l.here(t, image)); cached == all {
		t.Error("here, with a file changed: everything was cached")
	}
	if _, cached, all := steps(t, l.inCI(t, image)); all == 0 || cached != all {
		t.Errorf("CI, after that: %d of %d steps were cached", cached, all)
	}
}
