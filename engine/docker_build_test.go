package engine_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker/docker/api/types/container"
)

func TestDockerCancelEndsTheStepAndKeepsTheRest(t *testing.T) {
	const dockerfile = `FROM BASE AS deps
RUN echo 1
FROM deps
RUN echo 2
RUN sleep 9999
`
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		p := r.project(t, dockerfile, nil)
		progress := &watched{text: "sleep 9999", seen: make(chan struct{})}
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
		interrupted := errors.New("interrupted")
		cancel(interrupted)
		expect(t, b, engine.BuildCanceled, map[engine.Status][]int{engine.Ran: {2, 4}, engine.Canceled: {5}})
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
		p = r.project(t, strings.Replace(dockerfile, "sleep 9999", "echo 3", 1), nil)
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
		_, err := b.Deliver(t.Context(), engine.Delivery{Names: []string{"127.0.0.1:1/app:1"}, Push: true})
		if _, ok := errors.AsType[*engine.DeliveryError](err); !ok {
			t.Errorf("delivering to where no registry is: %v, want a DeliveryError", err)
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
	t.Parallel()
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
