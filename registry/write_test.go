package registry

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An upload that breaks is begun anew; its parts are never sent twice, since
// they append.
func TestUploadThatBreaks(t *testing.T) {
	t.Parallel()
	isUpload := func(r *http.Request, method string) bool {
		return r.Method == method && strings.Contains(r.URL.Path, "/blobs/uploads/")
	}
	for _, tc := range []struct {
		name   string
		method string
		answer func(http.ResponseWriter) bool
	}{
		{"connection lost at the start", http.MethodPost, hangUp},
		{"500 at the start", http.MethodPost, func(w http.ResponseWriter) bool { return refuse(w, 500, "") }},
		{"connection lost in the middle", http.MethodPatch, hangUp},
		{"500 in the middle", http.MethodPatch, func(w http.ResponseWriter) bool { return refuse(w, 500, "") }},
		{"429 in the middle", http.MethodPatch, func(w http.ResponseWriter) bool { return refuse(w, 429, "") }},
		{"connection lost at the end", http.MethodPut, hangUp},
		{"upload forgotten at the end", http.MethodPut, func(w http.ResponseWriter) bool { return refuse(w, 404, "BLOB_UPLOAD_UNKNOWN") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			broken := make(chan bool, 1)
			broken <- true
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if !isUpload(r, tc.method) {
					return false
				}
				select {
				case <-broken:
					io.Copy(io.Discard, r.Body)
					return tc.answer(w)
				default:
					return false
				}
			})
			c, blob := f.client(t), bytes.Repeat([]byte("x"), 10_000)
			written, err := c.PutBlob(t.Context(), f.Repository, blob, "x")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Blob(t.Context(), f.Repository, written.Digest, 10_000); err != nil || !bytes.Equal(got, blob) {
				t.Errorf("Blob: %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestUploadThatBreaksForever(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		return r.Method == http.MethodPatch && refuse(w, 500, "")
	})
	_, err := f.client(t).PutBlob(t.Context(), f.Repository, []byte("x"), "x")
	checkKind(t, err, ErrUnavailable)
	if got := f.count("PATCH "); got != uploadAttempts {
		t.Errorf("%d attempts, want %d", got, uploadAttempts)
	}
}

// A blob may be deleted while the tool runs: what was uploaded once is looked
// for again.
func TestUploadAfterDeletion(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		return r.Method == http.MethodHead && refuse(w, 404, "") // as if always deleted
	})
	c := f.client(t)
	for range 2 {
		if _, err := c.PutBlob(t.Context(), f.Repository, []byte("x"), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.count("PATCH "); got != 2 {
		t.Errorf("%d uploads, want 2", got)
	}
}

func TestUploadOfWhatIsThere(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	c := f.client(t)
	for range 2 {
		if _, err := c.PutBlob(t.Context(), f.Repository, []byte("x"), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.count("POST "); got != 1 {
		t.Errorf("%d uploads, want 1", got)
	}
}

func TestPutManifest(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`)
	lacking := []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","size":1,"digest":"` + digest.FromString("x").String() + `"}]}`)
	for _, tc := range []struct {
		name, ref, mediaType string
		raw                  []byte
		answer               answer
		want                 error
		requests             int
	}{
		{name: "written", raw: raw, requests: 1},
		{name: "503 once", raw: raw, answer: once(func(w http.ResponseWriter) bool { return refuse(w, 503, "") }), requests: 2},
		{name: "connection lost once", raw: raw, answer: once(hangUp), requests: 2},
		{name: "503 forever", raw: raw, answer: always(503, ""), want: ErrUnavailable, requests: 3},
		{name: "403", raw: raw, answer: always(403, "DENIED"), want: ErrUnauthorized, requests: 1},
		{name: "no such repository", raw: raw, answer: always(404, "NAME_UNKNOWN"), want: ErrNotFound, requests: 1},
		{name: "immutable tag", raw: raw, answer: always(400, "TAG_INVALID"), want: ErrRejected, requests: 1},
		{name: "a blob is missing", raw: raw, answer: always(404, "MANIFEST_BLOB_UNKNOWN"), want: ErrRejected, requests: 1},
		{name: "a child is missing", raw: lacking, want: ErrRejected, requests: 1},
		{name: "another digest", raw: raw, ref: digest.FromString("x").String(), want: ErrInvalid},
		{name: "not a manifest", raw: []byte(`{`), want: ErrInvalid},
		{name: "not an image", raw: raw, mediaType: "text/plain", want: ErrInvalid},
		{name: "too large", raw: append(bytes.Repeat([]byte(" "), MaxManifestSize), raw...), want: ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, nth int) bool {
				return tc.answer != nil && isManifestRequest(r) && tc.answer(w, r, nth)
			})
			ref, mediaType := "feat-x", ocispec.MediaTypeImageIndex
			if tc.ref != "" {
				ref = tc.ref
			}
			if tc.mediaType != "" {
				mediaType = tc.mediaType
			}
			_, err := f.client(t).PutManifest(t.Context(), f.Repository, ref, tc.raw, mediaType)
			checkKind(t, err, tc.want)
			if got := f.count("PUT "); got != tc.requests {
				t.Errorf("%d requests, want %d", got, tc.requests)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		answer answer
		want   error
	}{
		{"deleted", nil, nil},
		{"nothing to delete", always(404, "MANIFEST_UNKNOWN"), ErrNotFound},
		{"deleting is off", always(405, "UNSUPPORTED"), ErrUnsupported},
		{"tags cannot be deleted", always(400, "DIGEST_INVALID"), ErrUnsupported},
		{"not allowed", always(403, "DENIED"), ErrUnauthorized},
		{"down", always(503, ""), ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, nth int) bool {
				return tc.answer != nil && r.Method == http.MethodDelete && tc.answer(w, r, nth)
			})
			f.store(t, "feat-x")
			checkKind(t, f.client(t).Delete(t.Context(), f.Repository, "feat-x"), tc.want)
		})
	}
}

func TestCanPush(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		answer answer
		want   error
	}{
		{"yes", nil, nil},
		{"403", always(403, "DENIED"), ErrUnauthorized},
		{"read-only", always(405, "UNSUPPORTED"), ErrUnsupported},
		{"no such repository", always(404, "NAME_UNKNOWN"), ErrNotFound},
		{"down", always(503, ""), ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, nth int) bool {
				return tc.answer != nil && r.Method == http.MethodPost && tc.answer(w, r, nth)
			})
			checkKind(t, f.client(t).CanPush(t.Context(), f.Repository), tc.want)
			givenUp := func() int { return f.count("DELETE /v2/acme/app/blobs/uploads/") }
			for limit := time.Now().Add(10 * time.Second); tc.want == nil && givenUp() == 0 && time.Now().Before(limit); {
				time.Sleep(time.Millisecond) // it is not waited for
			}
			if got := givenUp(); (got == 1) != (tc.want == nil) {
				t.Errorf("%d uploads given up", got)
			}
		})
	}
}

// Nobody waits for an upload to be given up, so that nobody is told of a wait.
func TestGivingUpAnUploadIsTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		given, waits := 0, 0
		client := NewClient(Options{
			OnWait: func(Wait) { mu.Lock(); defer mu.Unlock(); waits++ },
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				answer := httptest.NewRecorder()
				switch r.Method {
				case http.MethodPost:
					answer.Header().Set("Location", "http://127.0.0.1:5000/v2/acme/app/blobs/uploads/1")
					answer.WriteHeader(http.StatusAccepted)
				case http.MethodDelete:
					given++
					answer.WriteHeader(http.StatusServiceUnavailable)
				}
				response := answer.Result()
				response.Request = r
				return response, nil
			}),
		})
		repository, err := ParseRepository("127.0.0.1:5000/acme/app")
		if err != nil {
			t.Fatal(err)
		}
		if err := client.CanPush(t.Context(), repository); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * giveUpTimeout) // of the bubble's time
		mu.Lock()
		defer mu.Unlock()
		if given != 1 || waits != 0 {
			t.Errorf("given up %d times with %d waits, want once without", given, waits)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
