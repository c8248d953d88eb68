package e2e

import (
	"archive/tar"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// trials is how often each story of several caches is told: what BuildKit
// loses at random it loses in one of a few. make soak tells it often.
var trials = flag.Int("trials", 1, "repetitions of tests of chance")

// eachTrial tells a story with a repository and engine of its own.
func eachTrial(t *testing.T, r *runner, story func(t *testing.T, r *runner)) {
	for trial := range *trials {
		t.Run(fmt.Sprint(trial), func(t *testing.T) {
			again := *r
			again.repo = r.env.Repo(t)
			r.engine.Fresh(t)
			story(t, &again)
		})
	}
}

// from lists the tags that the cached steps came from, by stage, as in
// "deps=master-deps,master-deps 1=?": ? is not known.
func (o outcome) from() string {
	var all []string
	for _, stage := range o.report.Stages {
		var tags []string
		for _, step := range stage.Steps {
			switch {
			case step.Status != "cached":
			case step.From == "":
				tags = append(tags, "?")
			default:
				tags = append(tags, step.From[strings.LastIndex(step.From, ":")+1:])
			}
		}
		all = append(all, stage.Name+"="+strings.Join(tags, ","))
	}
	return strings.Join(all, " ")
}

func (o outcome) wantFrom(t *testing.T, want string) {
	t.Helper()
	if got := o.from(); got != want {
		t.Errorf("%s:\ncached steps are from %s,\n                  want %s\n%s", o.args, got, want, o.stderr)
	}
}

// independent has two stages that do not need each other.
const independent = `FROM BASE AS base
RUN head -c 99999 /dev/urandom >/base
FROM base AS deps
COPY deps.txt /
RUN cat /deps.txt; head -c 99999 /dev/urandom >/deps
FROM base AS app
COPY app.txt /
RUN cat /app.txt; head -c 99999 /dev/urandom >/app
FROM BASE
COPY --from=deps /deps /deps
COPY --from=app /app /app
`

// A branch is rebased: its dependencies were built by master yesterday, its
// own code by itself. Only what nobody ever built is built: the combination.
func TestRebasedBranchTakesFromBoth(t *testing.T) {
	eachTrial(t, onBuildKit(t), func(t *testing.T, r *runner) {
		r = r.with("--cache-unprefixed", "never")
		master, branch := r.on("master"), r.on("feat")
		build := func(r *runner, deps, app string, options ...string) outcome {
			r.write(t, "Dockerfile", independent)
			r.write(t, "deps.txt", deps)
			r.write(t, "app.txt", app)
			r.engine.Fresh(t)
			return r.with(options...).run(t, 0, r.image("x"))
		}
		build(master, "1", "1").wantSteps(t, "base=r deps=rr app=rr 3=rr")
		build(branch, "1", "2").wantSteps(t, "base=c deps=cc app=rr 3=cr")
		build(master, "2", "1").wantSteps(t, "base=c deps=rr app=cc 3=rr")

		served := build(branch, "2", "2", "--cache-save", "never", "--push=false")
		served.wantSteps(t, "base=c deps=cc app=cc 3=cr")
		rebased := build(branch, "2", "2")
		rebased.wantSteps(t, "base=c deps=cc app=cc 3=cr")
		rebased.wantFrom(t, "base=master-base deps=master-deps,master-deps app=feat-app,feat-app 3=master")
		again := build(branch, "2", "2")
		again.wantSteps(t, "base=c deps=cc app=cc 3=cc")
		again.wantFrom(t, "base=master-base deps=master-deps,master-deps app=feat,feat 3=master,feat")
	})
}

// siblings has two leaves, of which each job builds one.
const siblings = `FROM BASE AS deps
COPY deps.txt /
RUN head -c 99999 /dev/urandom >/deps
FROM BASE AS test1
COPY --from=deps /deps /deps
RUN sha256sum /deps >/test1
FROM BASE AS test2
COPY --from=deps /deps /deps
RUN sha256sum /deps >/test2
`

// Two jobs that built the same step differently find all of their own again.
func TestSiblingJobsWithOtherLeaves(t *testing.T) {
	eachTrial(t, onBuildKit(t), func(t *testing.T, r *runner) {
		r.write(t, "Dockerfile", siblings)
		r.write(t, "deps.txt", "deps")
		job := func(name, scope string) outcome {
			r.engine.Fresh(t)
			return r.on("feat").with("--target", name, "--cache-scope", scope).run(t, 0, r.image(name))
		}
		job("test1", "job1").wantSteps(t, "deps=rr test1=rr")
		// As if at the same time: it does not know of the first.
		r.engine.Fresh(t)
		r.on("other").with("--default-branch", "other", "--cache-unprefixed", "never", "--cache-scope", "job2", "--target", "test2").
			run(t, 0, r.image("test2")).wantSteps(t, "deps=rr test2=rr")
		// Both of them are read by jobs of both, on either branch.
		for _, target := range []string{"test1", "test2", "test1"} {
			r.engine.Fresh(t)
			both := r.with("--branch", "other", "--default-branch", "feat", "--cache-scope", "job3", "--target", target).run(t, 0, r.image(target))
			both.wantSteps(t, "deps=cc "+target+"=cc")
			both.wantSaid(t, "job1", "job2")
		}
	})
}

// matrix has a leaf that differs in each job.
const matrix = `FROM BASE AS deps
COPY deps.txt /
RUN head -c 99999 /dev/urandom >/deps
FROM BASE
ARG JOB
COPY --from=deps /deps /deps
RUN echo $JOB; sha256sum /deps >/out
`

// Four jobs at once keep all that they did, whoever ends last.
func TestFourMatrixJobsAtOnce(t *testing.T) {
	eachTrial(t, onBuildKit(t), func(t *testing.T, r *runner) {
		r.write(t, "Dockerfile", matrix)
		r.write(t, "deps.txt", "deps")
		jobs := []string{"a", "b", "c", "d"}
		atOnce := func(options func(job string) []string) []outcome {
			r.engine.Fresh(t)
			var running []*process
			for _, job := range jobs {
				running = append(running, r.on("feat").with(options(job)...).start(t, r.image(job)))
			}
			var ended []outcome
			for _, p := range running {
				o := p.wait(t)
				if o.status != 0 {
					t.Fatalf("exit status %d\n%s", o.status, o.stderr)
				}
				ended = append(ended, o)
			}
			return ended
		}
		scoped := func(job string) []string { return []string{"--build-arg", "JOB=" + job, "--cache-scope", job} }
		atOnce(scoped)
		for _, o := range atOnce(scoped) {
			o.wantSteps(t, "deps=cc 1=cc")
		}
		// A job that never ran finds what the others share.
		r.engine.Fresh(t)
		r.on("feat").with(scoped("e")...).run(t, 0, r.image("e")).wantSteps(t, "deps=cc 1=cr")
	})
}

// Two builds of one branch at once, in one scope, leave a cache with what both
// did.
func TestTwoBuildsOfABranchAtOnce(t *testing.T) {
	eachTrial(t, onBuildKit(t), func(t *testing.T, r *runner) {
		r.write(t, "Dockerfile", matrix)
		r.write(t, "deps.txt", "deps")
		build := func(job string) *process {
			return r.on("feat").with("--cache-unprefixed", "never", "--build-arg", "JOB="+job).start(t, r.image(job))
		}
		running := []*process{build("a"), build("b")}
		for _, p := range running {
			if o := p.wait(t); o.status != 0 {
				t.Fatalf("exit status %d\n%s", o.status, o.stderr)
			}
		}
		for _, job := range []string{"a", "b"} {
			r.engine.Fresh(t)
			p := r.on("feat").with("--cache-save", "never", "--build-arg", "JOB="+job).start(t, r.image(job))
			p.wait(t).wantSteps(t, "deps=cc 1=cc")
		}
	})
}

// fiveStages has five stages that are built and cached by one job each.
func fiveStages() string {
	file := "FROM BASE AS base\nRUN head -c 99999 /dev/urandom >/base\n"
	last := "FROM BASE\n"
	for i := range 5 {
		file += fmt.Sprintf("FROM base AS s%d\nCOPY deps.txt /\nRUN head -c 99999 /dev/urandom >/s%d\n", i, i)
		last += fmt.Sprintf("COPY --from=s%d /s%d /\n", i, i)
	}
	return file + last
}

// Five stages of which each has another cache are found at once.
func TestFiveStagesOfFiveCaches(t *testing.T) {
	eachTrial(t, onBuildKit(t), func(t *testing.T, r *runner) {
		r.write(t, "Dockerfile", fiveStages())
		r.write(t, "deps.txt", "deps")
		for i := range 5 {
			r.engine.Fresh(t)
			target := fmt.Sprint("s", i)
			r.on("feat").with("--cache-unprefixed", "never", "--cache-scope", target, "--target", target).run(t, 0, r.image(target))
		}
		r.engine.Fresh(t)
		r.on("feat").with("--cache-unprefixed", "never").run(t, 0, r.image("all")).wantSteps(t, "base=c s0=cc s1=cc s2=cc s3=cc s4=cc 6=rrrrr")
		r.engine.Fresh(t)
		r.on("feat").run(t, 0, r.image("all")).wantSteps(t, "base=c s0=cc s1=cc s2=cc s3=cc s4=cc 6=ccccc")
	})
}

// secretive has a step whose secret is no part of its key.
const secretive = `FROM BASE AS secretive
COPY gen.txt /
RUN --mount=type=secret,id=s cp /run/secrets/s /x
FROM BASE
COPY --from=secretive /x /x
RUN cp /x /y
`

// Two jobs ran a step with different secrets. BuildKit, given both results,
// would put the newer one into the image of whoever has the same step: the
// cache of a job never brings its secret into another's image.
func TestNoSecretOfAnotherJob(t *testing.T) {
	eachTrial(t, onBuildKit(t), func(t *testing.T, r *runner) {
		r.write(t, "Dockerfile", secretive)
		r.write(t, "AAA", "AAA")
		r.write(t, "BBB", "BBB")
		build := func(branch, defaultBranch, gen, secret string) string {
			r.write(t, "gen.txt", gen)
			r.engine.Fresh(t)
			tag := branch + gen + secret
			r.with("--branch", branch, "--default-branch", defaultBranch, "--cache-unprefixed", "never", "--secret", "id=s,src="+secret).
				run(t, 0, r.image(tag))
			return fileIn(t, r.image(tag), "x") + fileIn(t, r.image(tag), "y")
		}
		build("master", "master", "1", "AAA")
		build("feat", "feat", "1", "BBB") // knows nothing of master's
		for i, secret := range []string{"AAA", "BBB"} {
			// The step runs, for gen.txt is new; what follows it may be a hit.
			if got := build("feat", "master", fmt.Sprint("new", i), secret); got != secret+secret {
				t.Errorf("the image has %q, was built with %s", got, secret)
			}
		}
	})
}

// fileIn reads a file of an image.
func fileIn(t *testing.T, image, name string) string {
	t.Helper()
	pulled, err := remote.Image(reference(t, image))
	if err != nil {
		t.Fatal(err)
	}
	files := mutate.Extract(pulled)
	defer files.Close()
	archive := tar.NewReader(files)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s has no file %s", image, name)
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimPrefix(header.Name, "/") == name {
			content, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(content))
		}
	}
}

// An inline cache, which is all that old engines can make, serves where its
// keys are the same.
func TestInlineCacheOfAnotherTool(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "Dockerfile", "FROM BASE\nCOPY deps.txt /\nRUN head -c 99999 /dev/urandom >/deps\nCOPY app.txt /\nRUN cat /app.txt\n")
	r.write(t, "deps.txt", "deps")
	r.write(t, "app.txt", "1")
	inline := r.image("inline")
	buildctl := exec.Command(r.tool(t, "buildctl"), "--addr", r.engine.Address, "build", "--frontend", "dockerfile.v0",
		"--local", "context="+r.dir, "--local", "dockerfile="+r.dir,
		"--export-cache", "type=inline", "--output", "type=image,push=true,name="+inline)
	if out, err := buildctl.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.write(t, "app.txt", "2")
	r.engine.Fresh(t)
	o := r.on("feat").with("--cache-from", inline).run(t, 0, r.image("1"))
	o.wantSteps(t, "0=ccrr")
	o.wantFrom(t, "0=inline,inline")
	o.wantUnsaid(t, "warning: the cache")
}

// tool finds a client of the testbed.
func (r *runner) tool(t *testing.T, name string) string {
	t.Helper()
	for _, variable := range r.env.Environ() {
		if path, ok := strings.CutPrefix(variable, "PATH="); ok {
			for dir := range strings.SplitSeq(path, ":") {
				if found, err := exec.LookPath(dir + "/" + name); err == nil {
					return found
				}
			}
		}
	}
	t.Fatalf("the testbed has no %s", name)
	return ""
}

// An engine that keeps caches inside images alone reads one that it is given.
func TestGivenImageOnAnOldEngine(t *testing.T) {
	t.Parallel()
	r := newRunner(t, kind{"docker", testbed.Docker, dockerHost})
	r.write(t, "Dockerfile", "FROM BASE\nCOPY deps.txt /\nRUN head -c 99999 /dev/urandom >/deps\nCOPY app.txt /\nRUN cat /app.txt\n")
	r.write(t, "deps.txt", "deps")
	r.write(t, "app.txt", "1")
	inline := r.image("inline")
	for _, args := range [][]string{
		{"build", "--network", testbed.Network, "--build-arg", "BUILDKIT_INLINE_CACHE=1", "-t", inline, r.dir}, {"push", inline},
	} {
		docker := exec.Command(r.tool(t, "docker"), append([]string{"-H", r.engine.Address}, args...)...)
		docker.Env = append(r.env.Environ(), "DOCKER_BUILDKIT=1")
		if out, err := docker.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	r.write(t, "app.txt", "2")
	r.engine.Fresh(t)
	r.on("feat").with("--network", testbed.Network, "--cache-from", inline).run(t, 0, r.image("1")).wantSteps(t, "0=ccrr")
}
