package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestParseImage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, host, path, tag string }{
		{"app", "docker.io", "library/app", "latest"},
		{"app:1.2", "docker.io", "library/app", "1.2"},
		{"acme/app", "docker.io", "acme/app", "latest"},
		{"docker.io/app", "docker.io", "library/app", "latest"},
		{"index.docker.io/acme/app:x", "docker.io", "acme/app", "x"},
		{"ghcr.io/acme/app:feat_x-1.2", "ghcr.io", "acme/app", "feat_x-1.2"},
		{"ghcr.io/a", "ghcr.io", "a", "latest"},
		{"host:5000/name", "host:5000", "name", "latest"},
		{"host:5000/name:5000", "host:5000", "name", "5000"},
		{"localhost/app", "localhost", "app", "latest"},
		{"localhost:5000/a/b/c:t", "localhost:5000", "a/b/c", "t"},
		{"127.0.0.1:5000/app", "127.0.0.1:5000", "app", "latest"},
		{"[::1]:5000/app", "[::1]:5000", "app", "latest"},
		{"Host.example/app", "Host.example", "app", "latest"},
		{"a__b/c-d.e_f", "docker.io", "a__b/c-d.e_f", "latest"},
		{"save:latest", "docker.io", "library/save", "latest"},
	} {
		got, err := ParseImage(tc.text)
		if err != nil {
			t.Errorf("ParseImage(%q): %v", tc.text, err)
			continue
		}
		if got.Repository.Host() != tc.host || got.Repository.Path() != tc.path || got.Tag != tc.tag {
			t.Errorf("ParseImage(%q) = %q %q %q", tc.text, got.Repository.Host(), got.Repository.Path(), got.Tag)
		}
		if again, err := ParseImage(got.String()); err != nil || again != got {
			t.Errorf("ParseImage(%q) = %v, %v, want what %q gave", got.String(), again, err, tc.text)
		}
	}
}

func TestParseImageSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, want string }{
		{"", "is empty"},
		{"https://ghcr.io/acme/app", "write ghcr.io/acme/app"},
		{"Acme/app", "lower case, write acme/app"},
		{"ghcr.io/Acme/App:V1", "lower case, write ghcr.io/acme/app:V1"},
		{"App", "lower case, write app"},
		{"acme/app:", "nothing follows the colon, write acme/app"},
		{"acme/app:-x", `the tag "-x" is not valid`},
		{"acme/app:feat/x", `the tag "feat/x" is not valid`},
		{"app:" + strings.Repeat("x", 129), "the tag is 129 characters long, at most 128"},
		{"ghcr.io/" + strings.Repeat("x", 256), "the repository is 256 characters long, at most 255"},
		{"acme app", `the character ' ' is not allowed`},
		{"acme/äpp", `the character 'ä' is not allowed`},
		{"app\n", `the character '\n' is not allowed`},
		{"acme//app", "a component of the path is empty"},
		{"/app", "a component of the path is empty"},
		{"acme/app/", "a component of the path is empty"},
		{"acme/-app", `the component "-app" is not valid`},
		{"acme/a..b", `the component "a..b" is not valid`},
		{"acme/$APP", "lower case"},
		{"acme/$app", `the component "$app" is not valid`},
		{"host:port/app", `"host:port" is not a registry's host`},
		{"host:/app", `"host:" is not a registry's host`},
		{"host_a:5000/app", `"host_a:5000" is not a registry's host`},
		{strings.Repeat("a", 64), "64-byte hexadecimal"},
	} {
		_, err := ParseImage(tc.text)
		var problem *NameError
		if !errors.As(err, &problem) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("ParseImage(%q) = %v, want a NameError with %q", tc.text, err, tc.want)
		}
	}
}

func TestParseImageRefusesDigests(t *testing.T) {
	t.Parallel()
	sum := "sha256:" + strings.Repeat("a", 64)
	for _, tc := range []struct{ text, write string }{
		{"ghcr.io/acme/app@" + sum, "ghcr.io/acme/app:TAG"},
		{"ghcr.io/acme/app:1.2@" + sum, "ghcr.io/acme/app:1.2"},
		{"host:5000/app@" + sum, "host:5000/app:TAG"},
		{"app@latest", "app:TAG"},
		{"@" + sum, "NAME:TAG"},
	} {
		_, err := ParseImage(tc.text)
		var digest *DigestError
		if !errors.As(err, &digest) || digest.Write != tc.write {
			t.Errorf("ParseImage(%q) = %v, want a DigestError with %q", tc.text, err, tc.write)
		}
	}
}

func TestParseRepository(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, want string }{
		{"app", "docker.io/library/app"},
		{"host:5000/name", "host:5000/name"},
		{"ghcr.io/acme/app/cache", "ghcr.io/acme/app/cache"},
	} {
		if got, err := ParseRepository(tc.text); err != nil || got.String() != tc.want {
			t.Errorf("ParseRepository(%q) = %v, %v", tc.text, got, err)
		}
	}
	for _, tc := range []struct{ text, want string }{
		{"ghcr.io/acme/app:cache", "without a tag, write ghcr.io/acme/app"},
		{"app:5000", "without a tag, write app"},
		{"app@sha256:" + strings.Repeat("a", 64), "without a digest, write app"},
		{"App", "lower case"},
	} {
		_, err := ParseRepository(tc.text)
		var problem *NameError
		if !errors.As(err, &problem) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("ParseRepository(%q) = %v, want a NameError with %q", tc.text, err, tc.want)
		}
	}
}

// What ParseImage takes means to docker what it means to us, and writing it
// out changes nothing.
func FuzzParseImage(f *testing.F) {
	for _, seed := range []string{
		"app", "host:5000/name", "ghcr.io/acme/app:1.2", "Acme/app", "[::1]:5000/app", "app@sha256:00",
		"a:b/c", "localhost/x", "/", ":", "docker.io/docker.io/app", "a//b", "index.docker.io/app",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		image, err := ParseImage(text)
		if err != nil {
			if err.Error() == "" || image != (Image{}) {
				t.Fatalf("ParseImage(%q) = %v, %q", text, image, err)
			}
			return
		}
		if again, err := ParseImage(image.String()); err != nil || again != image {
			t.Fatalf("%q is %v, which is %v, %v", text, image, again, err)
		}
		if repository, err := ParseRepository(image.Repository.String()); err != nil || repository != image.Repository {
			t.Fatalf("%q has the repository %v, which is %v, %v", text, image.Repository, repository, err)
		}
		if !ValidTag(image.Tag) {
			t.Fatalf("%q has the tag %q", text, image.Tag)
		}
		docker, err := reference.ParseDockerRef(text)
		if err != nil || docker.String() != image.String() {
			t.Fatalf("%q is %v, for docker it is %v, %v", text, image, docker, err)
		}
	})
}
