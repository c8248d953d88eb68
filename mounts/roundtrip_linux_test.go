package mounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// store is a repository in memory.
type store struct {
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	puts  int
}

func newStore() *store { return &store{blobs: map[digest.Digest][]byte{}} }

func (s *store) Get(_ context.Context, blob ocispec.Descriptor) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, ok := s.blobs[blob.Digest]
	if !ok {
		return nil, fmt.Errorf("there is no blob %s", blob.Digest)
	}
	return io.NopCloser(&verified{r: bytes.NewReader(content), verifier: blob.Digest.Verifier()}), nil
}

func (s *store) Put(_ context.Context, mediaType string, content io.Reader) (ocispec.Descriptor, error) {
	raw, err := io.ReadAll(content)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	d := digest.FromBytes(raw)
	s.blobs[d] = raw
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}, nil
}

// verified ends with an error where the content has another digest.
type verified struct {
	r        io.Reader
	verifier digest.Verifier
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.verifier.Write(p[:n])
	if err == io.EOF && !v.verifier.Verified() {
		err = errors.New("another digest")
	}
	return n, err
}

// serving runs Serve on a directory, at the other end of the conn.
func serving(t testing.TB, dir string, client func(net.Conn)) error {
	t.Helper()
	here, there := net.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), dir, there)
		there.Close()
	}()
	client(here)
	here.Close()
	return <-served
}

func saveDir(t testing.TB, dir string, previous *State, since Mark, blobs Blobs) (State, Saved) {
	t.Helper()
	var state State
	var saved Saved
	var err error
	served := serving(t, dir, func(conn net.Conn) {
		state, saved, err = Save(t.Context(), conn, previous, since, blobs, Limits{})
	})
	if err != nil || served != nil {
		t.Fatalf("save: %v; serve: %v", err, served)
	}
	return state, saved
}

func restoreDir(t testing.TB, dir string, state State, blobs Blobs) Restored {
	t.Helper()
	var restored Restored
	var err error
	served := serving(t, dir, func(conn net.Conn) {
		restored, err = Restore(t.Context(), conn, state, blobs, Limits{})
	})
	if err != nil || served != nil {
		t.Fatalf("restore: %v; serve: %v", err, served)
	}
	return restored
}

func TestASimpleMountComesBack(t *testing.T) {
	t.Parallel()
	dir, blobs := t.TempDir(), newStore()
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/a/b/c", []byte("hello"), 0o640); err != nil {
		t.Fatal(err)
	}
	state, saved := saveDir(t, dir, nil, Mark{}, blobs)
	if saved.New != 1 || saved.Entries != 3 || !saved.Whole {
		t.Fatalf("%+v", saved)
	}
	to := t.TempDir()
	restored := restoreDir(t, to, state, blobs)
	if restored.Warm || restored.Mark == (Mark{}) {
		t.Fatalf("%+v", restored)
	}
	if got, err := os.ReadFile(to + "/a/b/c"); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, saved := saveDir(t, to, &state, restored.Mark, blobs); !saved.Unchanged {
		t.Fatalf("%+v", saved)
	}
	if _, saved := saveDir(t, to, &state, Mark{}, blobs); !saved.Unchanged {
		t.Fatalf("%+v", saved)
	}
}
