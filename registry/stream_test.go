package registry

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ranged makes a registry answer ranges of blobs; the one in process does not.
func ranged(f *fake) func(w http.ResponseWriter, r *http.Request, nth int) bool {
	return func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method != http.MethodGet || r.Header.Get("Range") == "" {
			return false
		}
		plain := r.Clone(r.Context())
		plain.Header.Del("Range")
		whole := httptest.NewRecorder()
		f.registry.ServeHTTP(whole, plain)
		if whole.Code != http.StatusOK {
			return false
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(whole.Body.Bytes()))
		return true
	}
}

func TestStreamedBlobs(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	f.answer = ranged(f)
	blobs := Blobs{f.client(t), f.Repository}
	content := make([]byte, 2*rangePart+12345)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	for _, size := range []int{0, 1, rangePart, len(content)} {
		written, err := blobs.Put(t.Context(), "application/x", bytes.NewReader(content[:size]))
		if err != nil {
			t.Fatal(err)
		}
		if want := digest.FromBytes(content[:size]); written.Digest != want || written.Size != int64(size) || written.MediaType != "application/x" {
			t.Errorf("%d bytes were written as %+v", size, written)
		}
		if got, err := readBlob(t, blobs, written); err != nil || !bytes.Equal(got, content[:size]) {
			t.Errorf("of %d bytes %d came back: %v", size, len(got), err)
		}
		uploads := f.count("PUT /v2/acme/app/blobs/")
		if _, err := blobs.Put(t.Context(), "application/x", bytes.NewReader(content[:size])); err != nil {
			t.Fatal(err)
		}
		if again := f.count("PUT /v2/acme/app/blobs/"); again != uploads {
			t.Errorf("%d bytes that the repository has were uploaded again", size)
		}
	}
}

// What a registry holds is untrusted.
func TestStreamedBlobThatIsAnother(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	f.answer = ranged(f)
	blobs := Blobs{f.client(t), f.Repository}
	written, err := blobs.Put(t.Context(), "application/x", strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	short := ocispec.Descriptor{Digest: written.Digest, Size: written.Size + 1}
	long := ocispec.Descriptor{Digest: written.Digest, Size: written.Size - 1}
	for name, d := range map[string]ocispec.Descriptor{"too short": short, "too long": long, "no digest": {Digest: "x", Size: 1}} {
		if _, err := readBlob(t, blobs, d); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	missing := ocispec.Descriptor{Digest: digest.FromString("missing"), Size: 5}
	if _, err := readBlob(t, blobs, missing); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v, want ErrNotFound", err)
	}
}

func TestStreamedUploadThatBreaks(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		return r.Method == http.MethodPatch && !broken.Swap(true) && hangUp(w)
	})
	blobs := Blobs{f.client(t), f.Repository}
	written, err := blobs.Put(t.Context(), "application/x", strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := blobs.Client.Blob(t.Context(), f.Repository, written.Digest, 100); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}

func readBlob(t *testing.T, blobs Blobs, d ocispec.Descriptor) ([]byte, error) {
	t.Helper()
	r, err := blobs.Get(t.Context(), d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
