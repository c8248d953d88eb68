package engine

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is sent to the classic builder: only what it may see, with modes that
// do not depend on a umask, and the Dockerfile hidden from COPY.
func TestContextArchive(t *testing.T) {
	t.Parallel()
	for _, compress := range []bool{false, true} {
		dir := t.TempDir()
		writeFiles(t, dir, map[string]string{
			".dockerignore": "ignored\n!ignored/kept\n", "Dockerfile": "FROM disk\n",
			"ignored/a": "a", "ignored/kept": "b", "kept": "c",
		})
		archive, err := newContextArchive(t.Context(), Options{Context: dir, Classic: ClassicOptions{Compress: compress}})
		if err != nil {
			t.Fatal(err)
		}
		defer archive.remove()
		for range 2 {
			files, err := archive.open([]byte("FROM sent\n"))
			if err != nil {
				t.Fatal(err)
			}
			got := untar(t, files, compress)
			want := map[string]string{
				addedDockerfile: "FROM sent\n",
				".dockerignore": "ignored\n!ignored/kept\n\n.dockerignore\n" + addedDockerfile + "\n",
				"Dockerfile":    "FROM disk\n", "ignored/": "", "ignored/kept": "b", "kept": "c",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			files.Close()
		}
	}
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// untar gives the texts in a tar, by name, and checks owners and modes.
func untar(t *testing.T, packed io.Reader, compressed bool) map[string]string {
	t.Helper()
	if compressed {
		unpacked, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		packed = unpacked
	}
	texts := map[string]string{}
	for archive := tar.NewReader(packed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || header.Mode&0o022 != 0 {
			t.Errorf("%s: owner %d:%d, mode %o", header.Name, header.Uid, header.Gid, header.Mode)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := texts[header.Name]; twice {
			t.Errorf("%s is there twice", header.Name)
		}
		texts[header.Name] = string(text)
	}
}
