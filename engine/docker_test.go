package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	dockerclient "github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"
)

// Docker 20.10 is the one engine for both ways to build without a separate
// cache: through its BuildKit and with its classic builder.
func eachDockerBuilder(t *testing.T, test func(*testing.T, *runner)) {
	for _, name := range []string{"inline", "classic"} {
		t.Run(name, func(t *testing.T) {
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

// The first steps of the last two stages are alike, so that a builder that
// looks into the wrong stage's image goes astray.
const threeStages = `ARG UNUSED=1
FROM BASE AS deps
ENV A=1
RUN echo deps >/deps
FROM deps AS builder
WORKDIR /src
COPY src/ ./
RUN cat a >/out
FROM BASE AS test
WORKDIR /app
RUN echo test >/tested
FROM BASE
WORKDIR /app
COPY --from=builder /out /app/
COPY . /all/
LABEL last=1
RUN test ! -e /all/.dockerfile* && echo final >/final
`

var all = []int{4, 6, 7, 8, 10, 11, 13, 14, 15, 17}

func TestDockerResumesFromStageImages(t *testing.T) {
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		p := r.project(t, threeStages, map[string]string{"src/a": "1", ".dockerignore": ".git\n"})
		request := r.request(p, nil)
		request.Options.Labels = []engine.KeyValue{{Key: "one", Value: "1"}}
		b := r.start(t.Context(), t, request)
		// To the engine, two stages that begin alike are one so far.
		expect(t, b, engine.OK, map[engine.Status][]int{engine.Ran: {4, 6, 7, 8, 10, 11, 14, 15, 17}, engine.Cached: {13}})
		name := r.repository + ":name"
		delivered, err := b.Deliver(t.Context(), engine.Delivery{Names: []string{name}, Push: true})
		if err != nil {
			t.Fatal(err)
		}
		saved := r.save(t, b, p)
		if want := r.repository + "@" + delivered.Digest; saved[3][0] != want {
			t.Errorf("the target's stage is %s, want the image that was delivered, %s", saved[3][0], want)
		}
		end(t, b)
		r.expectStore(t, name, delivered.ImageID)

		r.engine.Fresh(t)
		request.StageImages = saved
		b = r.start(t.Context(), t, request)
		expect(t, b, engine.OK, map[engine.Status][]int{engine.Cached: all})
		again, err := b.Deliver(t.Context(), engine.Delivery{Names: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		if again.ImageID != delivered.ImageID {
			t.Errorf("the cached image is %s, want %s", again.ImageID, delivered.ImageID)
		}
		if pushed := r.save(t, b, p); pushed[3][0] != saved[3][0] {
			t.Errorf("the cached target is pushed as %s, want %s", pushed[3][0], saved[3][0])
		}

		end(t, b)
		r.engine.Fresh(t)
		write(t, p.dir, "src/a", "2")
		b = r.start(t.Context(), t, request)
		expect(t, b, engine.OK, map[engine.Status][]int{engine.Cached: {4, 6, 10, 11, 13}, engine.Ran: {7, 8, 14, 15, 17}})

		// The target alone misses, and needs a stage that was not fetched.
		end(t, b)
		r.engine.Fresh(t)
		changed := strings.Replace(threeStages, "COPY --from=builder /out", "COPY --from=builder /src", 1)
		p = r.project(t, changed, map[string]string{"src/a": "1", ".dockerignore": ".git\n"})
		request = r.request(p, saved)
		request.Options.Labels = []engine.KeyValue{{Key: "one", Value: "1"}}
		b = r.start(t.Context(), t, request)
		expect(t, b, engine.OK, map[engine.Status][]int{engine.Cached: {4, 6, 7, 8, 10, 11, 13}, engine.Ran: {14, 15, 17}})
	})
}

// expectStore wants one name in the image store beside the base image's.
func (r *runner) expectStore(t *testing.T, name, id string) {
	t.Helper()
	docker := r.client(t)
	images, err := docker.ImageList(t.Context(), image.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range images {
		for _, tag := range found.RepoTags {
			if tag != name && tag != r.env.Base("busybox:latest") && tag != "<none>:<none>" {
				t.Errorf("the image store still holds %s", tag)
			}
		}
	}
	inspected, err := docker.ImageInspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if inspected.ID != id {
		t.Errorf("%s is %s, want %s", name, inspected.ID, id)
	}
	if inspected.Config.Labels["one"] != "1" {
		t.Errorf("%s has labels %v", name, inspected.Config.Labels)
	}
}

func (r *runner) client(t *testing.T) *dockerclient.Client {
	t.Helper()
	docker, err := dockerclient.NewClientWithOpts(dockerclient.WithHost(r.engine.Address), dockerclient.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	return docker
}

// Whichever step fails, the next runner repeats that one and what needs it.
func TestDockerResumesAtTheFailedStep(t *testing.T) {
	const dockerfile = `FROM BASE AS deps
RUN echo 1
ENV A=1
RUN echo 2
FROM BASE
COPY --from=deps /etc/passwd /p
RUN echo 3
RUN echo 4
`
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		for _, test := range []struct {
			name, step, broken string
			line               int
			firstRun           map[engine.Status][]int
			nextRun            map[engine.Status][]int
		}{
			{
				"first", "RUN echo 1", "RUN echo 1; exit 7", 2,
				map[engine.Status][]int{engine.Failed: {2}, engine.Pending: {4, 6, 7, 8}},
				map[engine.Status][]int{engine.Ran: {2, 4, 6, 7, 8}},
			},
			{
				"middle of a stage", "RUN echo 2", "RUN echo 2; exit 7", 4,
				map[engine.Status][]int{engine.Ran: {2}, engine.Failed: {4}, engine.Pending: {6, 7, 8}},
				map[engine.Status][]int{engine.Cached: {2}, engine.Ran: {4, 6, 7, 8}},
			},
			{
				"copy", "/etc/passwd /p", "/etc/nothing /p", 6,
				map[engine.Status][]int{engine.Ran: {2, 4}, engine.Failed: {6}, engine.Pending: {7, 8}},
				map[engine.Status][]int{engine.Cached: {2, 4}, engine.Ran: {6, 7, 8}},
			},
			{
				"last of an unnamed stage", "RUN echo 4", "RUN echo 4; exit 7", 8,
				map[engine.Status][]int{engine.Ran: {2, 4, 6, 7}, engine.Failed: {8}},
				map[engine.Status][]int{engine.Cached: {2, 4, 6, 7}, engine.Ran: {8}},
			},
		} {
			t.Run(test.name, func(t *testing.T) {
				r.engine.Fresh(t)
				broken := r.project(t, strings.Replace(dockerfile, test.step, test.broken, 1), nil)
				b := r.start(t.Context(), t, r.request(broken, nil))
				expect(t, b, engine.BuildFailed, test.firstRun)
				outcome := b.Wait()
				if outcome.Line != test.line {
					t.Errorf("the build failed at line %d, want %d", outcome.Line, test.line)
				}
				var excerpt bytes.Buffer
				outcome.Excerpt(&excerpt, broken.file.Source)
				if want := fmt.Sprintf("%4d | >>> ", test.line); !strings.Contains(excerpt.String(), want) {
					t.Errorf("the excerpt does not point at line %d:\n%s", test.line, excerpt.String())
				}
				if _, err := b.Deliver(t.Context(), engine.Delivery{Names: []string{r.repository + ":broken"}}); err == nil {
					t.Error("a failed build was delivered")
				}
				saved := r.save(t, b, broken)
				end(t, b)

				r.engine.Fresh(t)
				b = r.start(t.Context(), t, r.request(r.project(t, dockerfile, nil), saved))
				expect(t, b, engine.OK, test.nextRun)
			})
		}
	})
}

func TestDockerCancelEndsTheStepAndKeepsTheRest(t *testing.T) {
	const dockerfile = `FROM BASE AS deps
RUN echo 1
FROM deps
RUN echo 2
RUN sleep 120
`
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		p := r.project(t, dockerfile, nil)
		progress := &watched{text: "sleep 120", seen: make(chan struct{})}
		request := r.request(p, nil)
		request.Progress.Out = progress
		ctx, cancel := context.WithCancelCause(t.Context())
		b := r.start(ctx, t, request)
		select {
		case <-progress.seen:
		case <-time.After(60 * time.Second):
			t.Fatal("the step did not start")
		}
		waitFor(t, func() bool { return len(statuses(b)[engine.Ran]) == 2 })
		if _, err := b.PushPartial(t.Context(), 1, r.repository); err != nil {
			t.Errorf("pushing what is complete while the build runs: %v", err)
		}
		interrupted, begun := errors.New("interrupted"), time.Now()
		cancel(interrupted)
		expect(t, b, engine.BuildCanceled, map[engine.Status][]int{engine.Ran: {2, 4}, engine.Canceled: {5}})
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("cancelling took %s", took)
		}
		if err := b.Wait().Err; !errors.Is(err, interrupted) {
			t.Errorf("the build ended with %v, want its context's cause", err)
		}
		saved := r.save(t, b, p)
		waitFor(t, func() bool {
			containers, err := r.client(t).ContainerList(t.Context(), container.ListOptions{All: true})
			return err == nil && len(containers) == 0
		})
		end(t, b)

		r.engine.Fresh(t)
		p = r.project(t, strings.Replace(dockerfile, "sleep 120", "echo 3", 1), nil)
		b = r.start(t.Context(), t, r.request(p, saved))
		expect(t, b, engine.OK, map[engine.Status][]int{engine.Cached: {2, 4}, engine.Ran: {5}})
	})
}

// watched tells when a text has been written.
type watched struct {
	text string
	seen chan struct{}
	all  []byte
}

func (w *watched) Write(p []byte) (int, error) {
	before := bytes.Contains(w.all, []byte(w.text))
	w.all = append(w.all, p...)
	if !before && bytes.Contains(w.all, []byte(w.text)) {
		close(w.seen)
	}
	return len(p), nil
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

func TestDockerKeepGoingBuildsOtherStages(t *testing.T) {
	const dockerfile = `FROM BASE AS test
RUN exit 7
FROM BASE AS builder
RUN echo 1
FROM test
RUN echo 2
FROM builder
RUN echo 3
`
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		request := r.request(r.project(t, dockerfile, nil), nil)
		request.KeepGoing = true
		b := r.start(t.Context(), t, request)
		expect(t, b, engine.BuildFailed, map[engine.Status][]int{engine.Failed: {2}, engine.Pending: {6}, engine.Ran: {4, 8}})
		if got := b.Wait().Line; got != 2 {
			t.Errorf("the build failed at line %d, want 2", got)
		}
	})
}

// What is not asked for is not built, and a cache that is gone is a miss.
func TestDockerBuildsOnlyTheRequestedStages(t *testing.T) {
	const dockerfile = `FROM BASE AS broken
RUN exit 7
FROM BASE AS base
FROM base AS target
RUN echo 1
FROM broken
RUN echo 2
`
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		request := r.request(r.project(t, dockerfile, nil), map[int][]string{2: {r.repository + ":gone"}})
		request.Stages, request.Target = []int{1, 2}, 2
		b := r.start(t.Context(), t, request)
		expect(t, b, engine.OK, map[engine.Status][]int{engine.Ran: {5}})
		if _, err := b.ExportCache(t.Context(), r.repository+":cache"); !errors.Is(err, engine.ErrNoSeparateCache) {
			t.Errorf("exporting a cache: %v, want %v", err, engine.ErrNoSeparateCache)
		}
		if _, err := b.PushStage(t.Context(), 3, r.repository); !errors.Is(err, engine.ErrNothingComplete) {
			t.Errorf("pushing a stage that was not built: %v, want %v", err, engine.ErrNothingComplete)
		}
	})
}

func TestDockerTriggers(t *testing.T) {
	const dockerfile = `FROM BASE AS parent
ONBUILD RUN echo once >>/triggered
RUN echo 1
FROM parent AS child
RUN test "$(cat /triggered)" = once
FROM child
RUN test "$(cat /triggered)" = once
`
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		p := r.project(t, dockerfile, nil)
		b := r.start(t.Context(), t, r.request(p, nil))
		if outcome := b.Wait(); outcome.Result != engine.OK {
			t.Fatal(outcome.Err)
		}
		saved := r.save(t, b, p)
		end(t, b)
		r.engine.Fresh(t)
		b = r.start(t.Context(), t, r.request(p, saved))
		if outcome := b.Wait(); outcome.Result != engine.OK {
			t.Fatal(outcome.Err)
		}
		for _, step := range b.Steps() {
			if step.Status != engine.Cached {
				t.Errorf("line %d, %s, is %s, want it cached", step.Line, step.Instruction, step.Status)
			}
		}
	})
}

func TestDockerRefusesWhatItCannotDo(t *testing.T) {
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		p := r.project(t, "FROM BASE\nRUN echo 1\n", nil)
		for flag, set := range map[string]func(*engine.Options){
			"--platform":      func(o *engine.Options) { o.Platforms = []string{"linux/amd64", "linux/arm64"} },
			"--attest":        func(o *engine.Options) { o.Attestations = []engine.Attestation{{Type: "sbom"}} },
			"--annotation":    func(o *engine.Options) { o.Annotations = []engine.Annotation{{Key: "a", Value: "b"}} },
			"--output":        func(o *engine.Options) { o.Outputs = []engine.Output{{Type: "oci", Destination: "x"}} },
			"--build-context": func(o *engine.Options) { o.BuildContexts = []engine.KeyValue{{Key: "a", Value: p.dir}} },
			"--cache-to":      func(o *engine.Options) { o.CacheTo = []engine.CacheSpec{{Type: "registry"}} },
			"--ulimit":        func(o *engine.Options) { o.Ulimits = []string{"nofile=10:20"} },
			"--shm-size":      func(o *engine.Options) { o.ShmSize = 1 << 20 },
			"--cgroup-parent": func(o *engine.Options) { o.CgroupParent = "x" },
			"--secret":        func(o *engine.Options) { o.Secrets = []engine.Secret{{ID: "a", Env: "A"}} },
		} {
			able := map[bool][]string{
				true:  {"--ulimit", "--shm-size", "--cgroup-parent"},
				false: {"--secret"},
			}[r.classic]
			request := r.request(p, nil)
			set(&request.Options)
			e := r.connect(t)
			err := e.Check(request.Options)
			if err == nil {
				var b engine.Build
				if b, err = e.Start(t.Context(), request); err == nil {
					defer b.Close()
				}
			}
			unsupported, refused := errors.AsType[*engine.UnsupportedError](err)
			switch {
			case slices.Contains(able, flag) && refused:
				t.Errorf("%s is refused: %v", flag, err)
			case !slices.Contains(able, flag) && !refused:
				t.Errorf("%s is not refused: %v", flag, err)
			case refused && (!strings.HasPrefix(unsupported.Option, flag) || unsupported.Remedy == ""):
				t.Errorf("%s is refused as %s, remedy %q", flag, unsupported.Option, unsupported.Remedy)
			}
		}
	})
}

func TestInlineExportsFiles(t *testing.T) {
	env := testbed.Up(t, testbed.Docker)
	r := &runner{env: env, engine: env.Engine(t, testbed.Docker), repository: env.Repo(t)}
	p := r.project(t, "FROM BASE AS builder\nRUN echo 1 >/out\nFROM scratch\nCOPY --from=builder /out /\n", nil)
	b := r.start(t.Context(), t, r.request(p, nil))
	expect(t, b, engine.OK, map[engine.Status][]int{engine.Ran: {2, 4}})
	dir := t.TempDir()
	var archive bytes.Buffer
	_, err := b.Deliver(t.Context(), engine.Delivery{Stdout: &archive, Outputs: []engine.Output{
		{Type: "local", Destination: dir},
		{Type: "tar", Destination: "-"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(got) != "1\n" {
		t.Errorf("exported %q, %v", got, err)
	}
	if !bytes.Contains(archive.Bytes(), []byte("out\x00")) {
		t.Errorf("the exported tar of %d bytes does not hold the file", archive.Len())
	}
}
