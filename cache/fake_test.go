package cache

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fake is a real registry in process with caches made by hand.
type fake struct {
	repo   registry.Repository
	client *registry.Client

	mu       sync.Mutex
	requests []string                    // "METHOD PATH"
	before   func(r *http.Request) int   // a status other than 0 is the answer
	gone     map[digest.Digest]time.Time // blobs that it has lost
}

func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{gone: map[digest.Digest]time.Time{}}
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := f.observe(r); status != 0 {
			w.WriteHeader(status)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.repo = f.repository(t, strings.TrimPrefix(server.URL, "http://")+"/acme/app")
	f.client = registry.NewClient(registry.Options{Attempts: 1, Timeout: 10 * time.Second})
	return f
}

func (f *fake) repository(t testing.TB, name string) registry.Repository {
	t.Helper()
	r, err := registry.ParseRepository(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fake) observe(r *http.Request) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	if i := strings.LastIndex(r.URL.Path, "/blobs/sha256:"); i >= 0 {
		if _, gone := f.gone[digest.Digest(r.URL.Path[i+len("/blobs/"):])]; gone {
			return http.StatusNotFound
		}
	}
	if f.before != nil {
		return f.before(r)
	}
	return 0
}

// refuseWrites is a registry that lets nobody write.
func refuseWrites(r *http.Request) int {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return 0
	}
	return http.StatusForbidden
}

// writes are the requests that were none to read.
func (f *fake) writes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.requests), func(r string) bool {
		return strings.HasPrefix(r, "GET ") || strings.HasPrefix(r, "HEAD ")
	})
}

// layerOf is the content of a step's layer. A step is written NAME or, where
// builds made different results of the same step, NAME@BUILD.
func layerOf(step string) []byte { return []byte("layer of " + step) }

func recordOf(step string) digest.Digest {
	name, _, _ := strings.Cut(step, "@")
	return digest.FromString(name)
}

// push stores the cache of a chain of steps and tags it.
func (f *fake) push(t testing.TB, repo registry.Repository, tag string, steps ...string) ocispec.Descriptor {
	t.Helper()
	config := cacheimporttypes.CacheConfig{}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, step := range steps {
		layer := f.blob(t, repo, layerOf(step), ocispec.MediaTypeImageLayerGzip)
		layer.Annotations = map[string]string{"containerd.io/uncompressed": layer.Digest.String()}
		manifest.Layers = append(manifest.Layers, layer)
		config.Layers = append(config.Layers, cacheimporttypes.CacheLayer{Blob: layer.Digest, ParentIndex: i - 1})
		record := cacheimporttypes.CacheRecord{Digest: recordOf(step), Results: []cacheimporttypes.CacheResult{{LayerIndex: i, CreatedAt: time.Unix(1, 0).UTC()}}}
		if i > 0 {
			record.Inputs = [][]cacheimporttypes.CacheInput{{{LinkIndex: i - 1, Selector: "s"}}}
		}
		config.Records = append(config.Records, record)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	manifest.Config = f.blob(t, repo, raw, cacheimporttypes.CacheConfigMediaTypeV0)
	if raw, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	pushed, err := f.client.PutManifest(t.Context(), repo, tag, raw, manifest.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	return pushed
}

func (f *fake) blob(t testing.TB, repo registry.Repository, content []byte, mediaType string) ocispec.Descriptor {
	t.Helper()
	d, err := f.client.PutBlob(t.Context(), repo, content, mediaType)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (f *fake) lose(step string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone[digest.FromBytes(layerOf(step))] = time.Now()
}

// contents lists the steps of a cache by their layers, sorted; raw and config
// are its documents.
func contents(t testing.TB, raw, config []byte) string {
	t.Helper()
	var c cacheimporttypes.CacheConfig
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), digest.FromBytes(config).String()) {
		t.Fatalf("the manifest is not that of the config: %s", raw)
	}
	var layers []string
	for _, record := range c.Records {
		for _, result := range record.Results {
			layers = append(layers, c.Layers[result.LayerIndex].Blob.String())
		}
	}
	slices.Sort(layers)
	return strings.Join(layers, " ")
}

func layers(steps ...string) string {
	var layers []string
	for _, step := range steps {
		layers = append(layers, digest.FromBytes(layerOf(step)).String())
	}
	slices.Sort(layers)
	return strings.Join(layers, " ")
}

// at reads the cache at a tag or digest.
func (f *fake) at(t testing.TB, repo registry.Repository, tag string) string {
	t.Helper()
	raw, _, err := f.client.Manifest(t.Context(), repo, tag)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	config, err := f.client.Blob(t.Context(), repo, m.Config.Digest, maxConfig)
	if err != nil {
		t.Fatal(err)
	}
	return contents(t, raw, config)
}

// plan is that of a branch; edit changes the request.
func (f *fake) plan(t *testing.T, branch, scope string, edit func(*Request)) Plan {
	t.Helper()
	r := request(t, twoStages, func(r *Request) {
		r.Image.Repository, r.Repository = f.repo, f.repo
		r.Branch.Name, r.Scope = branch, scope
		if edit != nil {
			edit(r)
		}
	})
	return NewPlan(r)
}

// view looks up and composes, and returns what the view holds.
func (f *fake) view(t *testing.T, p Plan) (View, string) {
	t.Helper()
	found := Look(t.Context(), f.client, p)
	view := Compose(t.Context(), f.client, p, found)
	view.Warnings = append(found.Warnings, view.Warnings...)
	switch {
	case view.Ref != "":
		name, d, _ := strings.Cut(view.Ref, "@")
		return view, f.at(t, f.repository(t, name), d)
	case view.Served != nil:
		raw := f.served(t, view, view.Digest)
		var m ocispec.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		return view, contents(t, raw, f.served(t, view, m.Config.Digest))
	}
	return view, ""
}

// served reads a blob as a daemon does.
func (f *fake) served(t *testing.T, v View, d digest.Digest) []byte {
	t.Helper()
	info, err := v.Served.Info(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Served.ReaderAt(t.Context(), ocispec.Descriptor{Digest: d})
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, info.Size)
	if n, err := r.ReadAt(content, 0); int64(n) != info.Size {
		t.Fatalf("%d of %d bytes: %v", n, info.Size, err)
	}
	if digest.FromBytes(content) != d {
		t.Fatal(fmt.Errorf("the content of %s is another", d))
	}
	return content
}
