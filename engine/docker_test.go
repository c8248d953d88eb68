package engine_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-cmp/cmp"
)

// Docker 20.10 is the one engine for both ways to build without a separate
// cache: through its BuildKit and with its classic builder.
func eachDockerBuilder(t *testing.T, test func(*testing.T, *runner)) {
	t.Parallel()
	for _, name := range []string{"inline", "classic"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := testbed.Up(t, testbed.Docker)
			test(t, &runner{env: env, engine: env.Engine(t, testbed.Docker), classic: name == "classic", repository: env.Repo(t)})
		})
	}
}

// runner runs builds as one CI runner after the other would.
type runner struct {
	env        *testbed.Env
	engine     *testbed.Engine
	classic    bool
	repository string
}

// project is a build context with its Dockerfile, in which BASE stands for a
// small base image.
type project struct {
	dir  string
	file *stages.File
}

func (r *runner) project(t *testing.T, dockerfile string, files map[string]string) project {
	t.Helper()
	p := project{dir: t.TempDir()}
	dockerfile = strings.ReplaceAll(dockerfile, "BASE", r.env.Base("busybox:latest"))
	write(t, p.dir, "Dockerfile", dockerfile)
	for name, text := range files {
		write(t, p.dir, name, text)
	}
	var err error
	if p.file, err = stages.Parse([]byte(dockerfile), stages.Options{}); err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r *runner) connect(t *testing.T) *engine.Engine {
	t.Helper()
	e, err := engine.Connect(t.Context(), engine.Selection{
		Classic: r.classic, DockerHost: r.engine.Address,
		Config: configfile.New(""), ConfigDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func (r *runner) request(p project, images map[int][]string) engine.Request {
	request := engine.Request{
		Options: engine.Options{
			Context: p.dir, Dockerfile: filepath.Join(p.dir, "Dockerfile"), Network: testbed.Network,
		},
		File: p.file, Target: len(p.file.Stages) - 1, StageImages: images,
		Progress: engine.Progress{Mode: "plain", Out: io.Discard},
	}
	if !r.classic {
		request.Options.Allow = []string{"network.host"}
	}
	for stage := range p.file.Stages {
		request.Stages = append(request.Stages, stage)
	}
	return request
}

// start begins a build that ends with the test.
func (r *runner) start(ctx context.Context, t *testing.T, request engine.Request) engine.Build {
	t.Helper()
	b, err := r.connect(t).Start(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, b) })
	return b
}

func end(t *testing.T, b engine.Build) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// save pushes all that is complete and gives it as the next build's images.
func (r *runner) save(t *testing.T, b engine.Build, p project) (saved map[int][]string) {
	t.Helper()
	saved = map[int][]string{}
	for stage := range p.file.Stages {
		desc, err := b.PushStage(t.Context(), stage, r.repository)
		if errors.Is(err, engine.ErrNothingComplete) {
			desc, err = b.PushPartial(t.Context(), stage, r.repository)
		}
		if errors.Is(err, engine.ErrNothingComplete) {
			continue
		}
		if err != nil {
			t.Fatalf("push stage %d: %v", stage, err)
		}
		if desc.Size == 0 || !strings.Contains(desc.MediaType, "manifest") || desc.Platform == nil || desc.Platform.OS != "linux" {
			t.Errorf("push stage %d: incomplete descriptor %+v", stage, desc)
		}
		saved[stage] = []string{r.repository + "@" + desc.Digest.String()}
	}
	return saved
}

// statuses are the lines of the steps, by status.
func statuses(b engine.Build) map[engine.Status][]int {
	lines := map[engine.Status][]int{}
	for _, step := range b.Steps() {
		lines[step.Status] = append(lines[step.Status], step.Line)
	}
	return lines
}

func expect(t *testing.T, b engine.Build, result engine.Result, want map[engine.Status][]int) {
	t.Helper()
	outcome := b.Wait()
	if outcome.Result != result {
		t.Fatalf("the build is %s, want %s: %v", outcome.Result, result, outcome.Err)
	}
	if diff := cmp.Diff(want, statuses(b)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}
