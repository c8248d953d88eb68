package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func noise(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// Blobs of any size come back, whatever breaks once on the way.
func TestBlobsAsStreams(t *testing.T) {
	t.Parallel()
	isUpload := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/uploads/") }
	large := []int{2*partSize + 5}
	for _, tc := range []struct {
		name   string
		sizes  []int
		breaks func(r *http.Request) bool
	}{
		{"nothing breaks", append(large, 0, 1, partSize-1, partSize), func(*http.Request) bool { return false }},
		{"a part is lost", large, func(r *http.Request) bool {
			return r.Method == http.MethodGet && strings.HasPrefix(r.Header.Get("Range"), "bytes=8388608-")
		}},
		{"the upload breaks", large, func(r *http.Request) bool { return r.Method == http.MethodPatch && isUpload(r) }},
		{"the end of the upload is lost", large, func(r *http.Request) bool { return r.Method == http.MethodPut && isUpload(r) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			once := make(chan bool, 1)
			once <- true
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if !tc.breaks(r) {
					return false
				}
				select {
				case <-once:
					return hangUp(w)
				default:
					return false
				}
			})
			blobs := f.client(t).Blobs(f.Repository)
			for _, size := range tc.sizes {
				content := noise(size)
				blob, err := blobs.Put(t.Context(), "x/y", bytes.NewReader(content))
				if err != nil {
					t.Fatal(err)
				}
				if want := (ocispec.Descriptor{MediaType: "x/y", Digest: digest.FromBytes(content), Size: int64(size)}); blob.Digest != want.Digest || blob.Size != want.Size || blob.MediaType != want.MediaType {
					t.Fatalf("Put: %+v, want %+v", blob, want)
				}
				r, err := blobs.Get(t.Context(), blob)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				r.Close()
				if err != nil || !bytes.Equal(got, content) {
					t.Fatalf("Get of %d bytes: %d bytes, %v", size, len(got), err)
				}
			}
		})
	}
}

func TestAnotherBlobThanWasAskedForIsInvalid(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	blobs := f.client(t).Blobs(f.Repository)
	stored, err := blobs.Put(t.Context(), "x/y", bytes.NewReader(noise(2*partSize+7)))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		blob ocispec.Descriptor
		kind error
	}{
		{"longer than described", ocispec.Descriptor{Digest: stored.Digest, Size: stored.Size - partSize}, ErrInvalid},
		{"shorter than described", ocispec.Descriptor{Digest: stored.Digest, Size: stored.Size + 1}, nil}, // registries differ
		{"not there", ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1}, ErrNotFound},
	} {
		r, err := blobs.Get(t.Context(), tc.blob)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if err == nil || tc.kind != nil && !errors.Is(err, tc.kind) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.kind)
		}
	}
	if _, err := blobs.Get(t.Context(), ocispec.Descriptor{Digest: "x", Size: 1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no digest: %v", err)
	}
}

// What another has written in the place of a blob is found out at the end.
func TestAChangedPartIsInvalid(t *testing.T) {
	t.Parallel()
	content := noise(2 * partSize)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method != http.MethodGet || r.Header.Get("Range") == "" {
			return false
		}
		w.WriteHeader(http.StatusPartialContent)
		w.Write(make([]byte, partSize))
		return true
	})
	r, err := f.client(t).Blobs(f.Repository).Get(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(content), Size: 2 * partSize})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); n != 2*partSize || !errors.Is(err, ErrInvalid) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A blob whose reading was given up is not a damaged one.
func TestACancelledBlobIsCancelled(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	blobs := f.client(t).Blobs(f.Repository)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // which part is asked for last is chance
		r, err := blobs.Get(ctx, ocispec.Descriptor{Digest: digest.FromString("x"), Size: 9 * partSize})
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r)
		r.Close()
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrInvalid) {
			t.Fatal(err)
		}
	}
}

// A process that is killed while it sends a blob leaves no file behind.
func TestAnUploadHasNoFileToLeaveBehind(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be removed")
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var asked atomic.Bool
	f := newFake(t, func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method == http.MethodPatch {
			asked.Store(true)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v, %v are there", left, err)
			}
		}
		return false
	})
	if _, err := f.client(t).Blobs(f.Repository).Put(t.Context(), "x", bytes.NewReader(noise(partSize+1))); err != nil {
		t.Fatal(err)
	}
	if !asked.Load() {
		t.Error("nothing was sent")
	}
}
