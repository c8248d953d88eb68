package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/docker/docker/api/types/image"
	dockerclient "github.com/docker/docker/client"
)

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
		// Inline, the image's configuration holds the cache too, of which
		// another build may carry over more or less: the same layers, not
		// always the same image.
		if r.classic && again.ImageID != delivered.ImageID {
			t.Errorf("the cached image is %s, want %s", again.ImageID, delivered.ImageID)
		}
		if pushed := r.save(t, b, p); r.classic && pushed[3][0] != saved[3][0] {
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
				outcome.Excerpt(&excerpt, broken.file)
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

// A partial image is a cache that the next failure adds to.
func TestDockerResumesMoreThanOnce(t *testing.T) {
	const dockerfile = `FROM BASE AS builder
RUN echo 1 >/out
FROM BASE
RUN echo 2
COPY --from=builder /out /
RUN echo 3
RUN echo 4
`
	eachDockerBuilder(t, func(t *testing.T, r *runner) {
		var saved map[int][]string
		for _, run := range []struct {
			step   string
			result engine.Result
			want   map[engine.Status][]int
		}{
			{"RUN echo 3", engine.BuildFailed, map[engine.Status][]int{engine.Ran: {2, 4, 5}, engine.Failed: {6}, engine.Pending: {7}}},
			{"RUN echo 4", engine.BuildFailed, map[engine.Status][]int{engine.Cached: {2, 4, 5}, engine.Ran: {6}, engine.Failed: {7}}},
			{"nothing", engine.OK, map[engine.Status][]int{engine.Cached: {2, 4, 5, 6}, engine.Ran: {7}}},
		} {
			r.engine.Fresh(t)
			p := r.project(t, strings.Replace(dockerfile, run.step, "RUN exit 7", 1), nil)
			b := r.start(t.Context(), t, r.request(p, saved))
			expect(t, b, run.result, run.want)
			saved = r.save(t, b, p)
			end(t, b)
		}
	})
}

func TestDockerPushesWithCredentials(t *testing.T) {
	t.Parallel()
	env := testbed.Up(t, testbed.Docker, testbed.RegistryAuth)
	r := &runner{env: env, engine: env.Engine(t, testbed.Docker)}
	p := r.project(t, "FROM BASE\nRUN echo 1\n", nil)
	repository := env.RegistryAuth + "/" + strings.ToLower(t.Name())
	for name, password := range map[string]string{"right": env.RegistryAuthPassword, "wrong": "wrong"} {
		config := configfile.New("")
		config.AuthConfigs[env.RegistryAuth] = types.AuthConfig{Username: env.RegistryAuthUser, Password: password}
		e, err := engine.Connect(t.Context(), engine.Selection{DockerHost: r.engine.Address, Config: config, ConfigDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		b, err := e.Start(t.Context(), r.request(p, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer end(t, b)
		if outcome := b.Wait(); outcome.Result != engine.OK {
			t.Fatal(outcome.Err)
		}
		if _, err := b.PushStage(t.Context(), 0, repository); (err == nil) != (name == "right") {
			t.Errorf("%s password: %v", name, err)
		}
		_, err = b.Deliver(t.Context(), engine.Delivery{Names: []string{repository + ":1"}, Push: true})
		var refused *engine.DeliveryError
		if name == "wrong" && (!errors.As(err, &refused) || !refused.Denied()) || name == "right" && err != nil {
			t.Errorf("%s password: the image is delivered with %v", name, err)
		}
	}
}
