package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestClientWritesWhatItReads(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	c, ctx := f.client(t), t.Context()

	const configType = "application/vnd.buildkit.cacheconfig.v0"
	config, err := c.PutBlob(ctx, f.Repository, []byte(`[]`), configType)
	if err != nil {
		t.Fatal(err)
	}
	if has, err := c.HasBlob(ctx, f.Repository, config.Digest); !has || err != nil {
		t.Errorf("HasBlob = %v, %v", has, err)
	}
	if has, err := c.HasBlob(ctx, f.Repository, digest.FromString("else")); has || err != nil {
		t.Errorf("HasBlob of another = %v, %v", has, err)
	}
	if blob, err := c.Blob(ctx, f.Repository, config.Digest, 2); string(blob) != `[]` || err != nil {
		t.Errorf("Blob = %q, %v", blob, err)
	}
	if _, err := c.Blob(ctx, f.Repository, config.Digest, 1); !errors.Is(err, ErrInvalid) {
		t.Errorf("Blob larger than wanted: %v", err)
	}

	raw := []byte(`{"schemaVersion":2,"config":{"mediaType":"` + configType + `","digest":"` + config.Digest.String() + `","size":2},"layers":[]}`)
	want := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	for _, ref := range []string{"feat-x", want.Digest.String()} {
		if got, err := c.PutManifest(ctx, f.Repository, ref, raw, want.MediaType); err != nil || !same(got, want) {
			t.Fatalf("PutManifest %s = %v, %v", ref, got, err)
		}
		if got, err := c.Head(ctx, f.Repository, ref); err != nil || !same(got, want) {
			t.Errorf("Head %s = %v, %v", ref, got, err)
		}
		if got, desc, err := c.Manifest(ctx, f.Repository, ref); err != nil || !same(desc, want) || string(got) != string(raw) {
			t.Errorf("Manifest %s = %s, %v, %v", ref, got, desc, err)
		}
	}

	if err := c.Delete(ctx, f.Repository, "feat-x"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if _, err := c.Head(ctx, f.Repository, "feat-x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Head of a deleted tag: %v", err)
	}
	if err := c.CanPush(ctx, f.Repository); err != nil {
		t.Errorf("CanPush: %v", err)
	}
}

func same(a, b ocispec.Descriptor) bool {
	return a.MediaType == b.MediaType && a.Digest == b.Digest && a.Size == b.Size
}

func TestClientTellsFailuresApart(t *testing.T) {
	t.Parallel()
	other := `{"schemaVersion":2,"config":{},"layers":[]}`
	for _, tc := range []struct {
		name string
		// answer to every request for a manifest; nil, or not answering, is
		// the registry's own.
		answer   func(w http.ResponseWriter, r *http.Request, nth int) bool
		missing  bool // nothing is stored at the tag
		byDigest bool
		want     error // nil is success
		requests int
	}{
		{name: "no such tag", missing: true, want: ErrNotFound, requests: 1},
		{name: "404 without a body", answer: always(404, ""), want: ErrNotFound, requests: 1},
		{name: "400 with a code of absence", answer: always(400, "NAME_UNKNOWN"), want: ErrNotFound, requests: 1},
		{name: "401", answer: always(401, "UNAUTHORIZED"), want: ErrUnauthorized, requests: 1},
		{name: "403", answer: always(403, "DENIED"), want: ErrUnauthorized, requests: 1},
		{name: "400", answer: always(400, "TAG_INVALID"), want: ErrRejected, requests: 1},
		{name: "501", answer: always(501, ""), want: ErrUnsupported, requests: 1},
		{name: "429 forever", answer: always(429, "TOOMANYREQUESTS"), want: ErrUnavailable, requests: 3},
		{name: "503 forever", answer: always(503, ""), want: ErrUnavailable, requests: 3},
		{name: "429 once", answer: once(func(w http.ResponseWriter) bool { return refuse(w, 429, "") }), requests: 2},
		{name: "500 once", answer: once(func(w http.ResponseWriter) bool { return refuse(w, 500, "") }), requests: 2},
		{name: "connection lost once", answer: once(hangUp), requests: 2},
		{name: "connection lost forever", answer: every(hangUp), want: ErrUnavailable, requests: 3},
		{name: "broken off once", answer: once(breakOff), requests: 2},
		{name: "broken off forever", answer: every(breakOff), want: ErrUnavailable, requests: 3},
		{
			name: "registry asks for an hour",
			answer: every(func(w http.ResponseWriter) bool {
				w.Header().Set("Retry-After", "3600")
				return refuse(w, 429, "TOOMANYREQUESTS")
			}),
			want: ErrUnavailable, requests: 1,
		},
		{name: "truncated", answer: content(ocispec.MediaTypeImageManifest, `{"schemaVersion":2,`), want: ErrInvalid, requests: 1},
		{name: "too large", answer: content(ocispec.MediaTypeImageManifest, strings.Repeat(" ", MaxManifestSize+1)), want: ErrInvalid, requests: 1},
		{name: "not the digest", byDigest: true, answer: content(ocispec.MediaTypeImageManifest, other), want: ErrInvalid, requests: 1},
		{name: "not an image", answer: content("text/html", "<html>"), want: ErrInvalid, requests: 1},
		{name: "schema 1", answer: content("application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1}`), want: ErrInvalid, requests: 1},
		{name: "type by its own field", answer: content("application/json; charset=utf-8", `{"mediaType":"`+ocispec.MediaTypeImageIndex+`"}`), requests: 1},
		{name: "two types", answer: content(ocispec.MediaTypeImageIndex, `{"mediaType":"`+ocispec.MediaTypeImageManifest+`"}`), want: ErrInvalid, requests: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, nth int) bool {
				return tc.answer != nil && isManifestRequest(r) && tc.answer(w, r, nth)
			})
			ref := "feat-x"
			if !tc.missing {
				if _, d := f.store(t, ref); tc.byDigest {
					ref = d
				}
			}
			_, _, err := f.client(t).Manifest(t.Context(), f.Repository, ref)
			checkKind(t, err, tc.want)
			if got := f.count("GET /v2/acme/app/manifests/"); got != tc.requests {
				t.Errorf("%d requests, want %d", got, tc.requests)
			}
		})
	}
}

// TestAnswersAreForPeople: of what a registry answers, its text is shown.
func TestAnswersAreForPeople(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !isManifestRequest(r) {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"not yours","detail":[{"Action":"pull"}]},{"code":"OTHER","message":"no","detail":"by rule"}]}`)
		return true
	})
	_, _, err := f.client(t).Manifest(t.Context(), f.Repository, "x")
	checkKind(t, err, ErrUnauthorized)
	if text := err.Error(); !strings.HasSuffix(text, "DENIED: not yours; OTHER: no; by rule") {
		t.Errorf("the error is %s", text)
	}
}

// checkKind holds an error against one sentinel, and against all others.
func checkKind(t *testing.T, err, want error) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("got %v", err)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) || e.Kind != want || e.Host == "" || !strings.Contains(err.Error(), e.Host) {
		t.Errorf("got %v, want %v", err, want)
	}
	for _, kind := range []error{ErrNotFound, ErrUnauthorized, ErrUnavailable, ErrUnsupported, ErrRejected, ErrInvalid, context.Canceled} {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("errors.Is(%v, %v) = %v", err, kind, !(kind == want))
		}
	}
}

type answer = func(w http.ResponseWriter, r *http.Request, nth int) bool

func always(status int, code string) answer {
	return every(func(w http.ResponseWriter) bool { return refuse(w, status, code) })
}

func every(f func(http.ResponseWriter) bool) answer {
	return func(w http.ResponseWriter, _ *http.Request, _ int) bool { return f(w) }
}

func once(f func(http.ResponseWriter) bool) answer {
	return func(w http.ResponseWriter, _ *http.Request, nth int) bool { return nth == 1 && f(w) }
}

func content(mediaType, body string) answer {
	return every(func(w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", mediaType)
		w.Write([]byte(body))
		return true
	})
}

func TestHeadReadsWhereItCannotAsk(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		answer func(http.ResponseWriter) bool
	}{
		{"HEAD not allowed", func(w http.ResponseWriter) bool { return refuse(w, 405, "") }},
		{"no digest", func(w http.ResponseWriter) bool {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Content-Length", "10")
			return true
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
				return r.Method == http.MethodHead && tc.answer(w)
			})
			raw, d := f.store(t, "feat-x")
			got, err := f.client(t).Head(t.Context(), f.Repository, "feat-x")
			want := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(d), Size: int64(len(raw))}
			if err != nil || !same(got, want) {
				t.Errorf("Head = %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestHeadOfAMissingTagAsksOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	_, err := f.client(t).Head(t.Context(), f.Repository, "feat-x")
	checkKind(t, err, ErrNotFound)
	if got := f.count("HEAD /v2/acme/app/") + f.count("GET /v2/acme/app/"); got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
}

func TestClientStopsWithItsContext(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	f := newFake(t, func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if isManifestRequest(r) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	t.Cleanup(func() { close(release) })
	c := f.client(t)

	late, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := c.Head(late, f.Repository, "feat-x")
	checkKind(t, err, ErrUnavailable)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}

	cancelled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	_, err = c.Head(cancelled, f.Repository, "feat-x")
	checkKind(t, err, context.Canceled)

	own := f.client(t, func(o *Options) { o.Timeout = 30 * time.Millisecond })
	_, err = own.Head(t.Context(), f.Repository, "feat-x")
	checkKind(t, err, ErrUnavailable)
}

func TestClientRefusesBadReferences(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	c := f.client(t)
	for _, ref := range []string{"", "-x", "a/b", "sha256:12", "../../x"} {
		if _, _, err := c.Manifest(t.Context(), f.Repository, ref); !errors.Is(err, ErrInvalid) {
			t.Errorf("Manifest(%q): %v", ref, err)
		}
	}
	if _, err := c.Head(t.Context(), Repository{}, "x"); !errors.Is(err, ErrInvalid) {
		t.Errorf("no repository: %v", err)
	}
	if len(f.requests) != 0 {
		t.Errorf("requests: %v", f.requests)
	}
}

func TestBlobIsVerifiedAndBounded(t *testing.T) {
	t.Parallel()
	wanted := digest.FromString("wanted")
	for _, tc := range []struct {
		name   string
		answer func(http.ResponseWriter) bool
		want   error
	}{
		{"other content", func(w http.ResponseWriter) bool { w.Write([]byte("others")); return true }, ErrInvalid},
		{"endless", func(w http.ResponseWriter) bool {
			for range MaxManifestSize/1024 + 10 {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					break
				}
			}
			return true
		}, ErrInvalid},
		{"gone", func(w http.ResponseWriter) bool { return refuse(w, 404, "BLOB_UNKNOWN") }, ErrNotFound},
		{"a refusal with a long body", func(w http.ResponseWriter) bool {
			w.WriteHeader(404)
			w.Write(make([]byte, 2*maxErrorBody))
			return true
		}, ErrNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
				return strings.Contains(r.URL.Path, "/blobs/") && tc.answer(w)
			})
			_, err := f.client(t).Blob(t.Context(), f.Repository, wanted, 1<<20)
			checkKind(t, err, tc.want)
		})
	}
}

// A blob is often on a storage service, to which a redirect with a signature
// leads.
func TestBlobBehindARedirect(t *testing.T) {
	t.Parallel()
	blob := []byte("content")
	d := digest.FromBytes(blob)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		switch {
		case strings.HasPrefix(r.URL.Path, "/storage/found"):
			w.Write(blob)
		case strings.HasPrefix(r.URL.Path, "/storage/"):
			w.WriteHeader(404)
		case strings.HasSuffix(r.URL.Path, d.String()):
			http.Redirect(w, r, "/storage/found?signature=hunter2", http.StatusTemporaryRedirect)
		case strings.Contains(r.URL.Path, "/blobs/"):
			http.Redirect(w, r, "/storage/missing?signature=hunter2", http.StatusTemporaryRedirect)
		default:
			return false
		}
		return true
	})
	c := f.client(t)
	if got, err := c.Blob(t.Context(), f.Repository, d, 100); err != nil || string(got) != string(blob) {
		t.Errorf("Blob = %q, %v", got, err)
	}
	_, err := c.Blob(t.Context(), f.Repository, digest.FromString("else"), 100)
	checkKind(t, err, ErrNotFound)
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells the signature: %v", err)
	}
}
