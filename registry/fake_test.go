package registry

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fake is a real registry in process, whose answers a test may replace.
type fake struct {
	*httptest.Server
	Repository Repository
	registry   http.Handler

	mu       sync.Mutex
	requests []string // "METHOD PATH"
	answer   func(w http.ResponseWriter, r *http.Request, nth int) bool
	asked    map[string]int
}

// newFake starts one. answer is called with how often this method and path
// have been asked for, from 1, and returns whether it answered.
func newFake(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, nth int) bool) *fake {
	t.Helper()
	f := &fake{
		registry: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))),
		answer:   answer,
		asked:    map[string]int{},
	}
	f.Server = httptest.NewServer(f)
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(f.Close)
	repository, err := ParseRepository(f.Host() + "/acme/app")
	if err != nil {
		t.Fatal(err)
	}
	f.Repository = repository
	return f
}

func (f *fake) Host() string { return strings.TrimPrefix(f.URL, "http://") }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + " " + r.URL.Path
	f.mu.Lock()
	f.requests = append(f.requests, key)
	f.asked[key]++
	nth := f.asked[key]
	f.mu.Unlock()
	if f.answer == nil || !f.answer(w, r, nth) {
		f.registry.ServeHTTP(w, r)
	}
}

// count is how many requests had the prefix, such as "HEAD /v2/acme".
func (f *fake) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, request := range f.requests {
		if strings.HasPrefix(request, prefix) {
			n++
		}
	}
	return n
}

// options are those of a client that is quick to give up.
func options() Options {
	return Options{Timeout: 5 * time.Second, Attempts: 3, FirstWait: time.Millisecond}
}

func (f *fake) client(t *testing.T, change ...func(*Options)) *Client {
	t.Helper()
	o := options()
	// On a connection that was used before, the transport sends again by
	// itself what got no answer, and requests could not be counted.
	o.Transport = &http.Transport{DisableKeepAlives: true}
	for _, c := range change {
		c(&o)
	}
	return NewClient(o)
}

// store puts an empty image at a tag, past answer.
func (f *fake) store(t *testing.T, tag string) (raw []byte, digest string) {
	t.Helper()
	raw = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x","digest":"sha256:%s","size":2},"layers":[]}`,
		ocispec.MediaTypeImageManifest, strings.Repeat("0", 64))
	request := httptest.NewRequestWithContext(context.Background(), http.MethodPut, "/v2/acme/app/manifests/"+tag, strings.NewReader(string(raw)))
	request.Header.Set("Content-Type", ocispec.MediaTypeImageManifest)
	w := httptest.NewRecorder()
	f.registry.ServeHTTP(w, request)
	if w.Code != http.StatusCreated {
		t.Fatalf("store %s: %d", tag, w.Code)
	}
	return raw, w.Header().Get("Docker-Content-Digest")
}

// refuse answers with a status and a code of the distribution API.
func refuse(w http.ResponseWriter, status int, code string) bool {
	w.WriteHeader(status)
	if code != "" {
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"no"}]}`, code)
	}
	return true
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) bool {
	if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
		connection.Close()
	}
	return true
}

// breakOff sends less than it promises.
func breakOff(w http.ResponseWriter) bool {
	w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
	w.Header().Set("Content-Length", "1000")
	io.WriteString(w, `{"schemaVersion":2,`)
	return true
}

func isManifestRequest(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }
