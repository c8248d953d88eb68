package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func reference(t *testing.T, image string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// digestOf is what a tag refers to, "" for nothing.
func digestOf(t *testing.T, image string) string {
	t.Helper()
	head, err := remote.Head(reference(t, image))
	var answer *transport.Error
	switch {
	case err == nil:
		return head.Digest.String()
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return ""
	}
	t.Fatal(err)
	return ""
}

func wantAbsent(t *testing.T, image string) {
	t.Helper()
	if digest := digestOf(t, image); digest != "" {
		t.Errorf("%s exists: %s", image, digest)
	}
}

// plainImage reads a tag that must be an image with nothing attached.
func plainImage(t *testing.T, image string) v1.Image {
	t.Helper()
	got, err := remote.Get(reference(t, image))
	if err != nil {
		t.Fatal(err)
	}
	if !got.MediaType.IsImage() {
		t.Fatalf("%s is no plain image: %s\n%s", image, got.MediaType, got.Manifest)
	}
	if strings.Contains(string(got.Manifest), "buildkit.cache") {
		t.Errorf("%s has a cache attached:\n%s", image, got.Manifest)
	}
	plain, err := got.Image()
	if err != nil {
		t.Fatal(err)
	}
	return plain
}
