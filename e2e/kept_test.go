package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// inRepo is the runner with a repository of its own.
func (r *runner) inRepo(t *testing.T) *runner {
	other := *r
	other.repo = r.env.Repo(t)
	return &other
}

// wantGzip checks that old engines can run an image: none of its layers is
// compressed in a way they do not know.
func wantGzip(t *testing.T, image string) {
	t.Helper()
	layers, err := plainImage(t, image).Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		mediaType, err := layer.MediaType()
		if err != nil {
			t.Fatal(err)
		}
		if mediaType != types.OCILayer && mediaType != types.DockerLayer {
			t.Errorf("%s has a layer of type %s", image, mediaType)
		}
	}
}

// wantImportable checks that every tag of a repository holds all that it refers
// to.
func wantImportable(t *testing.T, repo string) {
	t.Helper()
	repository, err := name.NewRepository(repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(repository)
	if err != nil {
		if strings.Contains(err.Error(), "NAME_UNKNOWN") {
			return // nothing was written
		}
		t.Fatal(err)
	}
	for _, tag := range tags {
		checkManifest(t, repository, repository.Tag(tag))
	}
}

func checkManifest(t *testing.T, repository name.Repository, ref name.Reference) {
	t.Helper()
	got, err := remote.Get(ref)
	if err != nil {
		t.Errorf("%s: %v", ref, err)
		return
	}
	if got.MediaType.IsIndex() {
		index, err := got.ImageIndex()
		var manifest *v1.IndexManifest
		if err == nil {
			manifest, err = index.IndexManifest()
		}
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			return
		}
		for _, child := range manifest.Manifests {
			checkManifest(t, repository, repository.Digest(child.Digest.String()))
		}
		return
	}
	image, err := got.Image()
	var manifest *v1.Manifest
	var config []byte
	if err == nil {
		manifest, err = image.Manifest()
	}
	if err == nil {
		config, err = image.RawConfigFile()
	}
	if err != nil {
		t.Errorf("%s: %v", ref, err)
		return
	}
	for _, layer := range manifest.Layers {
		blob, err := remote.Layer(repository.Digest(layer.Digest.String()))
		if err == nil {
			_, err = blob.Size()
		}
		if err != nil {
			t.Errorf("%s: layer %s: %v", ref, layer.Digest, err)
		}
	}
	if len(config) == 0 {
		t.Errorf("%s has no config", ref)
	}
}

// What only says how an image is run makes no step run again, and yet the
// branch's image is another.
func TestConfigurationAloneIsSaved(t *testing.T) {
	r := onBuildKit(t)
	docker := testbed.Up(t, testbed.Docker).Engine(t, testbed.Docker)
	r = r.on("master")
	write := func(word string) {
		r.write(t, "Dockerfile", "FROM BASE\nRUN echo >/file\nCMD [\"echo\", \""+word+"\"]\n")
	}
	write("one")
	r.run(t, 0, r.image("1"))
	r.engine.Fresh(t)
	r.run(t, 0, r.image("1")).wantSaved(t, "")

	write("two")
	changed := r.run(t, 0, r.image("1"))
	changed.wantSteps(t, "0=c")
	changed.wantSaved(t, "master latest")
	for _, tag := range []string{"1", "master", "latest"} {
		if got := dockerRun(t, docker, r, r.image(tag)); got != "two\n" {
			t.Errorf("docker run %s prints %q", tag, got)
		}
	}
	r.engine.Fresh(t)
	r.run(t, 0, r.image("1")).wantSaved(t, "")
}
