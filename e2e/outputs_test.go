package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

var imageID = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// What scripts read after docker build is there after this command too.
func TestResultsForScripts(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, r *runner) {
		writeProject(t, r)
		iid, metadata := filepath.Join(t.TempDir(), "iid"), filepath.Join(t.TempDir(), "metadata")
		quiet := r.on("master").run(t, 0, r.image("1"), "--quiet", "--iidfile", iid, "--metadata-file", metadata)

		id := contents(t, iid)
		if !imageID.MatchString(id) {
			t.Errorf("--iidfile holds %q", id)
		}
		if quiet.stdout != id+"\n" {
			t.Errorf("--quiet prints %q, and the image is %s", quiet.stdout, id)
		}
		if quiet.stderr != "" {
			t.Errorf("--quiet says %q", quiet.stderr)
		}
		var response struct {
			Digest string `json:"containerimage.digest"`
			Name   string `json:"image.name"`
		}
		if err := json.Unmarshal([]byte(contents(t, metadata)), &response); err != nil {
			t.Fatal(err)
		}
		if pushed := digestOf(t, r.image("1")); response.Digest != pushed || response.Name != r.image("1") {
			t.Errorf("--metadata-file names %+v, and %s is %s", response, r.image("1"), pushed)
		}
		if config, err := plainImage(t, r.image("1")).ConfigName(); err != nil || id != config.String() && id != response.Digest {
			t.Errorf("the image ID is %s, its config %s (%v)", id, config, err)
		}
	})
}

func contents(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// The image goes where --output and --load say, from steps that were cached.
func TestOutputs(t *testing.T) {
	r := onBuildKit(t)
	docker := testbed.Up(t, testbed.Docker).Engine(t, testbed.Docker)
	writeProject(t, r)
	r = r.on("master").with("--push=false")
	r.run(t, 0, r.image("1"))
	r.engine.Fresh(t)

	r.run(t, 0, r.image("1"), "-o", "out").wantSteps(t, nothingRan)
	if app := contents(t, filepath.Join(r.dir, "out", "app")); app != "deps\nmain\n" {
		t.Errorf("-o out holds an app of %q", app)
	}

	archive := r.run(t, 0, r.image("1"), "-o", "type=oci,dest=-")
	if !strings.Contains(archive.stdout, "oci-layout") {
		t.Errorf("-o type=oci,dest=- prints %d bytes, which are no OCI layout", len(archive.stdout))
	}

	loading := *r
	loading.vars = append(loading.vars, "DOCKER_HOST="+docker.Address)
	loading.run(t, 0, r.image("loaded"), "--load", "-t", "other:2")
	for _, name := range []string{r.image("loaded"), "other:2"} {
		if got := dockerRun(t, docker, r, "--pull=never", name); got != "deps\nmain\n" {
			t.Errorf("docker run %s prints %q", name, got)
		}
	}
	wantAbsent(t, r.image("1"))
	wantAbsent(t, r.image("loaded"))

	// An engine that is not there is said before anything is lost.
	loading.vars = append(loading.vars, "DOCKER_HOST=unix:///nowhere.sock")
	loading.run(t, 1, r.image("1"), "--load").wantSaid(t, `^error: .*Docker Engine at unix:///nowhere.sock`)
}

// On a Docker Engine --load is the engine's own store, and an image that goes
// nowhere else stays there, as docker build leaves it.
func TestLoadIntoTheEngineThatBuilds(t *testing.T) {
	t.Parallel()
	r := newRunner(t, engineKind(t, "moby"))
	writeProject(t, r)
	r = r.on("master").with("--push=false")
	r.run(t, 0, r.image("loaded"), "--load")
	r.run(t, 0, r.image("left"))
	r.run(t, 0, r.image("nothing"), "--output", "type=cacheonly")
	host := "DOCKER_HOST=" + r.engine.Address
	if tags := tool(t, r, host, "docker", "image", "ls", "--format", "{{.Tag}}", r.repo); !strings.Contains(tags, "loaded") || !strings.Contains(tags, "left") || strings.Contains(tags, "nothing") {
		t.Errorf("the engine has images with the tags %q", tags)
	}
	if out := tool(t, r, host, "docker", "image", "inspect", "--format", "{{.Config.Cmd}}", r.image("left")); out != "[cat /app]\n" {
		t.Errorf("the image that was left has the command %q", out)
	}
}

// An image that goes nowhere has an ID all the same.
func TestImageIDOfWhatGoesNowhere(t *testing.T) {
	r := onBuildKit(t)
	writeProject(t, r)
	id := filepath.Join(t.TempDir(), "id")
	r.on("master").with("--push=false").run(t, 0, r.image("1"), "--iidfile", id)
	if got := contents(t, id); !strings.HasPrefix(got, "sha256:") {
		t.Errorf("--iidfile holds %q", got)
	}
}
