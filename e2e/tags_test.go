package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// A tag that somebody may run stays an image that an engine runs, though it
// refers to the cache too; the image that was asked for is nothing else. The
// engine is old: it knows neither zstd nor what else came after 2020.
func TestTagsStayRunnable(t *testing.T) {
	r := onBuildKit(t)
	docker := testbed.Up(t, testbed.Docker).Engine(t, testbed.Docker)
	writeProject(t, r)
	r.on("master").run(t, 0, r.image("1"))
	r.on("feat/x").with("--cache-unprefixed=never").run(t, 0, r.image("2"), "--push=false", "--no-cache")
	plainImage(t, r.image("1"))
	wantAbsent(t, r.image("2"))
	for _, tag := range []string{"1", "master", "latest", "feat-x"} {
		if got := dockerRun(t, docker, r, r.image(tag)); got != "deps\nmain\n" {
			t.Errorf("docker run %s prints %q", tag, got)
		}
	}
	for _, tag := range []string{"master", "latest", "master-builder", "tools"} {
		wantCacheBesideImage(t, r.image(tag))
	}
}

// dockerRun pulls an image and runs its command.
func dockerRun(t *testing.T, docker *testbed.Engine, r *runner, args ...string) string {
	t.Helper()
	return tool(t, r, "DOCKER_HOST="+docker.Address, append([]string{"docker", "run", "--rm", "--network", "none"}, args...)...)
}

// A tag that this tool did not write is never moved by a cache, and that is
// said; the cache is kept and found all the same.
func TestForeignTagIsNotMoved(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	master := r.on("master")
	foreign, err := remote.Image(reference(t, r.env.Base("busybox:latest")))
	if err != nil {
		t.Fatal(err)
	}
	taken := []string{"master", "latest", "builder"}
	before := map[string]string{}
	for _, tag := range taken {
		if err := remote.Write(reference(t, r.image(tag)), foreign); err != nil {
			t.Fatal(err)
		}
		before[tag] = digestOf(t, r.image(tag))
	}
	cold := master.run(t, 0, r.image("1"))
	cold.wantSaved(t, "master-tools tools master-builder builder-[0-9a-f]+ master-test test master-[0-9a-f]+ latest-[0-9a-f]+")
	for _, tag := range taken {
		cold.wantSaid(t, tag+" holds an image that is no cache of this tool")
		if after := digestOf(t, r.image(tag)); after != before[tag] {
			t.Errorf("%s was moved from %s to %s", tag, before[tag], after)
		}
	}

	r.engine.Fresh(t)
	master.run(t, 0, r.image("1")).wantSteps(t, nothingRan)
}

// A tag that an earlier run named as its image is a release: only a run that
// names it again moves it.
func TestReleaseIsNotMovedByACache(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	master := r.on("master")
	master.run(t, 0, r.image("latest"))
	plainImage(t, r.image("latest"))
	released := digestOf(t, r.image("latest"))

	r.write(t, "main.txt", "main, changed\n")
	next := master.run(t, 0, r.image("2"))
	next.wantSaved(t, "master-builder builder master-test test master latest-[0-9a-f]+")
	next.wantSaid(t, "latest holds an image that is no cache of this tool")
	if digest := digestOf(t, r.image("latest")); digest != released {
		t.Errorf("latest was moved from %s to %s", released, digest)
	}

	master.run(t, 0, r.image("latest"))
	plainImage(t, r.image("latest"))
	if digest := digestOf(t, r.image("latest")); digest == released || digest != digestOf(t, r.image("2")) {
		t.Errorf("latest is %s after a run that names it, and was %s", digest, released)
	}
}

// An image may take the tag that a cache of an earlier run has.
func TestImageTakesTheTagOfACache(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	master := r.on("master")
	master.run(t, 0, r.image("1"))
	wantCacheBesideImage(t, r.image("master"))
	master.run(t, 0, r.image("master"))
	plainImage(t, r.image("master"))

	r.engine.Fresh(t)
	master.run(t, 0, r.image("1")).wantSteps(t, nothingRan)
	plainImage(t, r.image("master"))
}

// Branches and stages whose tags would be the same keep apart.
func TestNamesThatMeet(t *testing.T) {
	r := onBuildKit(t)
	r = r.with("--cache-unprefixed=never")
	r.write(t, "Dockerfile", "FROM BASE AS builder\nRUN echo builder >/builder\nFROM BASE\nCOPY main.txt /\nRUN cat /main.txt >/app\n")
	for _, branch := range []string{"feat/x", "feat-x", "feat", "feat-builder"} {
		r.write(t, "main.txt", branch)
		r.on(branch).run(t, 0, r.image("1"))
	}
	for _, branch := range []string{"feat/x", "feat-x", "feat", "feat-builder"} {
		r.engine.Fresh(t)
		r.write(t, "main.txt", branch)
		again := r.on(branch).run(t, 0, r.image("1"))
		again.wantSteps(t, "builder=c 1=cc")
		again.wantImported(t, "builder=branch 1=branch")
	}
}

// A branch called as a stage is, where the unprefixed tags are written too.
func TestBranchCalledAsAStage(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	branches := []string{"builder", "latest", "master"}
	for _, branch := range branches {
		r.write(t, "main.txt", "main of "+branch)
		r.on(branch).run(t, 0, r.image("1"))
	}
	for _, branch := range branches {
		r.engine.Fresh(t)
		r.write(t, "main.txt", "main of "+branch)
		again := r.on(branch).run(t, 0, r.image("1"))
		again.wantSteps(t, nothingRan)
	}
}

// Further names are as plain as the first; --push=false names nothing; a cache
// may be kept elsewhere.
func TestNamesOfTheImage(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	master, other := r.on("master"), r.env.Repo(t)
	cold := master.run(t, 0, r.image("1"), "-t", r.image("stable"), "--tag", other+":1", "--cache-repo", other+"/cache")
	for _, image := range []string{r.image("1"), r.image("stable"), other + ":1"} {
		plainImage(t, image)
		if digest := digestOf(t, image); digest != cold.report.Result.Digest {
			t.Errorf("%s is %s, the report says %s", image, digest, cold.report.Result.Digest)
		}
	}
	wantTags(t, r.repo, "1 stable")
	wantTags(t, other, "1")

	r.engine.Fresh(t)
	again := master.run(t, 0, r.image("2"), "--push=false", "--cache-repo", other+"/cache")
	again.wantSteps(t, nothingRan)
	if result := again.report.Result; result.Pushed || result.Digest != "" {
		t.Errorf("with --push=false the report says %+v", result)
	}
	wantTags(t, r.repo, "1 stable")
}

// Nothing is written where that is asked for.
func TestSavePolicies(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	master := r.on("master")
	master.run(t, 0, r.image("1"), "--cache-save=never").wantSaved(t, "")
	wantTags(t, r.repo, "1")

	r.write(t, "Dockerfile", failingAfter(t, "RUN cat /src/deps.txt >/deps"))
	master.run(t, 1, r.image("1"), "--cache-save=success").wantSaved(t, "")
	wantTags(t, r.repo, "1")

	r.write(t, "Dockerfile", project)
	master.run(t, 0, r.image("1"), "--cache-save=success", "--cache-unprefixed=never", "--cache-stages=target", "--no-cache").
		wantSaved(t, "master-tools master-builder master")
}

// wantTags compares the tags of a repository, sorted.
func wantTags(t *testing.T, repo, want string) {
	t.Helper()
	repository, err := name.NewRepository(repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(repository)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(tags)
	if got := strings.Join(tags, " "); got != want {
		t.Errorf("%s has the tags %s, want %s", repo, got, want)
	}
}

// wantCacheBesideImage checks that a tag is an index of images, which engines
// choose from by platform, and one cache, which they pass over.
func wantCacheBesideImage(t *testing.T, image string) {
	t.Helper()
	index, err := remote.Index(reference(t, image))
	if err != nil {
		t.Fatalf("%s: %v", image, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images, caches := 0, 0
	for _, child := range manifest.Manifests {
		switch {
		case child.MediaType == types.OCIManifestSchema1 && child.Platform != nil && child.Platform.OS == "linux":
			images++
		default:
			caches++
		}
	}
	if images != 1 || caches != 1 {
		t.Errorf("%s has %d images and %d caches", image, images, caches)
	}
}
