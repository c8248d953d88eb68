package e2e

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// losing is a way to the registry on which a blob is deleted at a moment, or
// from a moment on nothing can be written.
type losing struct {
	*httptest.Server
	upstream string // host:port

	mu   sync.Mutex
	lose map[string]bool               // digests, once the moment has come
	when func(r *http.Request) bool    // the moment, if not nil
	lost []string                      // what has been deleted
	fail func(format string, v ...any) // of the test

	readOnly bool
}

// newLosing begins as a plain proxy.
func newLosing(t *testing.T, env *testbed.Env) *losing {
	l := &losing{upstream: env.Registry, lose: map[string]bool{}, fail: t.Errorf}
	upstream := &url.URL{Scheme: "http", Host: env.Registry}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		r.Out.Host = r.In.Host // uploads continue where they began: here
	}}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.observe(r); l.refuses(r) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// refuses tells whether a request to write comes after readOnly was set.
func (l *losing) refuses(r *http.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.readOnly && r.Method != http.MethodGet && r.Method != http.MethodHead
}

func (l *losing) host() string { return strings.TrimPrefix(l.URL, "http://") }

func (l *losing) observe(r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.when == nil || !l.when(r) {
		return
	}
	l.when = nil
	repo := r.URL.Path[:strings.LastIndex(r.URL.Path[:strings.LastIndex(r.URL.Path, "/")], "/")]
	for digest := range l.lose {
		request, err := http.NewRequest(http.MethodDelete, "http://"+l.upstream+repo+"/blobs/"+digest, nil)
		if err != nil {
			l.fail("%v", err)
			continue
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			l.fail("%v", err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusAccepted {
			l.fail("delete %s: %s", digest, response.Status)
		}
		l.lost = append(l.lost, digest)
	}
}

func (l *losing) deleted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lost)
}

// layers lists the layers of the image or cache at a tag.
func (l *losing) layers(t *testing.T, image string) []ocispec.Descriptor {
	t.Helper()
	host, rest, _ := strings.Cut(image, "/")
	name, tag, _ := strings.Cut(rest, ":")
	request, err := http.NewRequest(http.MethodGet, "http://"+host+"/v2/"+name+"/manifests/"+tag, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", ocispec.MediaTypeImageManifest)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) == 0 {
		t.Fatalf("%s: %s, %v", image, raw, err)
	}
	return m.Layers
}

// fromEngine tells whether BuildKit asks, and not the command.
func fromEngine(r *http.Request) bool {
	return strings.Contains(strings.ToLower(r.UserAgent()), "buildkit")
}

// A layer that the registry loses costs a build its cache, and never the build.
func TestLayerLostAtAnyMoment(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		when func(r *http.Request) bool
		says string
	}{
		"before look-up": {
			func(r *http.Request) bool { return !fromEngine(r) && strings.Contains(r.URL.Path, "/manifests/") },
			`warning: the registry has lost 1 layers of the cache at .*:(feat|latest|0)`,
		},
		"between look-up and build": {
			func(r *http.Request) bool { return fromEngine(r) && strings.Contains(r.URL.Path, "/manifests/sha256:") },
			`warning: the cache .*@sha256:.* broke the build .*; building again without it`,
		},
		"during the build": {
			func(r *http.Request) bool {
				return fromEngine(r) && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
			},
			`warning: the cache .*@sha256:.* broke the build .*; building again without it`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := onBuildKit(t)
			way := newLosing(t, r.env)
			r.repo = way.host() + strings.TrimPrefix(r.repo, r.env.Registry)
			r.write(t, "Dockerfile", "FROM BASE\nCOPY deps.txt /\nRUN head -c 999999 /dev/urandom >/deps\nCOPY app.txt /\nRUN cat /deps /app.txt | wc -c >/n\n")
			r.write(t, "deps.txt", "deps")
			r.write(t, "app.txt", "1")
			r.on("feat").run(t, 0, r.image("1")).wantSteps(t, "0=rrrr")

			// What comes after this layer cannot be built without it.
			layers := way.layers(t, r.image("1"))
			way.mu.Lock()
			way.lose[largest(layers).Digest.String()] = true
			way.when = tc.when
			way.mu.Unlock()
			r.write(t, "app.txt", "2")
			r.engine.Fresh(t)
			o := r.on("feat").run(t, 0, r.image("2"))
			o.wantSaid(t, tc.says)
			if lost := way.deleted(); len(lost) != 1 {
				t.Fatalf("deleted are %q\n%s", lost, o.stderr)
			}
			if n := fileIn(t, r.image("2"), "n"); n != "1000000" {
				t.Errorf("the image has %q", n)
			}
		})
	}
}

// largest is the largest layer that is not the base image's.
func largest(layers []ocispec.Descriptor) ocispec.Descriptor {
	return slices.MaxFunc(layers[1:], func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Size, b.Size) })
}

// Where nothing may be written, the merged cache is served by the process that
// builds: a fork of a project has all its caches.
func TestMergedCacheWhereNothingMayBeWritten(t *testing.T) {
	t.Parallel()
	onEveryEngine(t, func(t *testing.T, r *runner) {
		way := newLosing(t, r.env)
		r.repo = way.host() + strings.TrimPrefix(r.repo, r.env.Registry)
		r = r.with("--cache-unprefixed", "never")
		build := func(r *runner, deps, app string) outcome {
			r.write(t, "Dockerfile", independent)
			r.write(t, "deps.txt", deps)
			r.write(t, "app.txt", app)
			r.engine.Fresh(t)
			return r.run(t, 0, r.image("x"))
		}
		build(r.on("master"), "1", "1")
		build(r.on("feat"), "1", "2").wantSteps(t, "base=c deps=cc app=rr 3=cr")
		build(r.on("master"), "2", "1")

		way.mu.Lock()
		way.readOnly = true
		way.mu.Unlock()
		o := build(r.on("feat").with("--push=false"), "2", "2")
		o.wantSteps(t, "base=c deps=cc app=cc 3=cr")
		o.wantSaid(t, "the merged cache is served by this process")
	})
}
