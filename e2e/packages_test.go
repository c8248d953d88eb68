package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"path"
	"strings"
	"sync/atomic"
	"testing"
)

// manager is a package manager with a cache, and an upstream that is here.
type manager struct {
	name       string
	dockerfile string
	upstream   http.Handler
	files      func(dependencies []string) map[string]string
	// dependencies are added one by one: there are three.
	dependencies []string
}

// dependencySize is that of each made-up package, in bytes, which do not
// compress.
const dependencySize = 300_000

var goModules = manager{
	name: "go",
	dockerfile: `FROM BASE
WORKDIR /src
ENV GOFLAGS=-mod=mod GOSUMDB=off GOMODCACHE=/modules GOCACHE=/built CGO_ENABLED=0 GOTOOLCHAIN=local
ARG UPSTREAM
COPY . .
RUN --mount=type=cache,target=/modules --mount=type=cache,target=/built GOPROXY=$UPSTREAM go build -o /app .
`,
	upstream:     http.HandlerFunc(serveGoModule),
	dependencies: []string{"a", "b", "c"},
	files: func(dependencies []string) map[string]string {
		mod, main := "module example.test/app\n\ngo 1.21\n", "package main\n"
		for _, d := range dependencies {
			mod += fmt.Sprintf("\nrequire example.test/%s v1.0.0\n", d)
			main += fmt.Sprintf("\nimport _ %q\n", "example.test/"+d)
		}
		return map[string]string{"go.mod": mod, "main.go": main + "\nfunc main() {}\n"}
	},
}

// serveGoModule is a module proxy (go.dev/ref/mod#goproxy-protocol) that has
// every module below example.test.
func serveGoModule(w http.ResponseWriter, r *http.Request) {
	module, file, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/@v/")
	switch file {
	case "v1.0.0.info":
		io.WriteString(w, `{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}`)
	case "v1.0.0.mod":
		fmt.Fprintf(w, "module %s\n", module)
	case "v1.0.0.zip":
		archive := zip.NewWriter(w)
		for name, content := range map[string][]byte{
			"go.mod": []byte("module " + module + "\n"), "p.go": []byte("package " + path.Base(module) + "\n"), "data.bin": dependency(module),
		} {
			if f, err := archive.Create(module + "@v1.0.0/" + name); err == nil {
				f.Write(content)
			}
		}
		archive.Close()
	default:
		http.NotFound(w, r)
	}
}

// dependency is what makes a made-up package large.
func dependency(name string) []byte {
	var seed [32]byte
	copy(seed[:], name)
	content := make([]byte, dependencySize)
	rand.NewChaCha8(seed).Read(content)
	return content
}

var npmPackages = manager{
	name: "npm",
	dockerfile: `FROM BASE
WORKDIR /src
ARG UPSTREAM
COPY package.json ./
RUN --mount=type=cache,target=/root/.npm npm install --registry $UPSTREAM/ --no-audit --no-fund --prefer-offline
`,
	upstream:     http.HandlerFunc(serveNPM),
	dependencies: []string{"pkg-a", "pkg-b", "pkg-c"},
	files: func(dependencies []string) map[string]string {
		wanted := map[string]string{}
		for _, d := range dependencies {
			wanted[d] = "1.0.0"
		}
		text, _ := json.Marshal(map[string]any{"name": "app", "version": "1.0.0", "dependencies": wanted})
		return map[string]string{"package.json": string(text)}
	},
}

// serveNPM is a registry of npm's that has every package.
func serveNPM(w http.ResponseWriter, r *http.Request) {
	name, tarball := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/"), ".tgz")
	var packed bytes.Buffer
	compressed := gzip.NewWriter(&packed)
	archive := tar.NewWriter(compressed)
	add := func(file string, content []byte) {
		archive.WriteHeader(&tar.Header{Name: "package/" + file, Mode: 0o644, Size: int64(len(content))})
		archive.Write(content)
	}
	add("package.json", fmt.Appendf(nil, `{"name":%q,"version":"1.0.0"}`, name))
	add("data.bin", dependency(name))
	archive.Close()
	compressed.Close()
	w.Header().Set("Cache-Control", "public, max-age=3600")
	if tarball {
		w.Write(packed.Bytes())
		return
	}
	sum := sha512.Sum512(packed.Bytes())
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"name": name, "dist-tags": map[string]string{"latest": "1.0.0"}, "versions": map[string]any{"1.0.0": map[string]any{
		"name": name, "version": "1.0.0", "dist": map[string]string{
			"tarball": "http://" + r.Host + "/" + name + ".tgz", "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:]),
		},
	}}})
}

var pipPackages = manager{
	name: "pip",
	dockerfile: `FROM BASE
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip && apt-get clean
WORKDIR /src
ARG UPSTREAM
COPY requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip pip install --break-system-packages --index-url $UPSTREAM/simple --trusted-host 127.0.0.1 -r requirements.txt
`,
	upstream:     http.HandlerFunc(servePyPI),
	dependencies: []string{"wheela", "wheelb", "wheelc"},
	files: func(dependencies []string) map[string]string {
		return map[string]string{"requirements.txt": strings.Join(dependencies, "==1.0\n") + "==1.0\n"}
	},
}

// servePyPI is a package index (peps.python.org/pep-0503) that has every wheel.
func servePyPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=3600")
	if name, ok := strings.CutPrefix(r.URL.Path, "/simple/"); ok {
		name = strings.Trim(name, "/")
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!DOCTYPE html><a href=\"/%s-1.0-py3-none-any.whl\">%[1]s-1.0-py3-none-any.whl</a>", name)
		return
	}
	name, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "-1.0-py3-none-any.whl")
	if !ok {
		http.NotFound(w, r)
		return
	}
	archive := zip.NewWriter(w)
	for _, file := range []struct{ name, content string }{
		{name + "/__init__.py", ""},
		{name + "/data.bin", string(dependency(name))},
		{name + "-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\n"},
		{name + "-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{name + "-1.0.dist-info/RECORD", ""},
	} {
		if f, err := archive.Create(file.name); err == nil {
			io.WriteString(f, file.content)
		}
	}
	archive.Close()
}

// debianPackages come from the mirror that the base image names, through a
// proxy that is here. The image's docker-clean empties apt's cache.
var debianPackages = manager{
	name: "apt",
	dockerfile: `FROM BASE
RUN rm -f /etc/apt/apt.conf.d/docker-clean && echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' >/etc/apt/apt.conf.d/keep
COPY packages ./
ARG UPSTREAM
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    export http_proxy=$UPSTREAM && apt-get update && apt-get install --yes --no-install-recommends $(cat packages)
`,
	upstream:     &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}},
	dependencies: []string{"cowsay", "hello", "tree"},
	files: func(dependencies []string) map[string]string {
		return map[string]string{"packages": strings.Join(dependencies, "\n") + "\n"}
	},
}

// counted counts what an upstream sends.
type counted struct {
	http.Handler
	bytes atomic.Int64
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.Handler.ServeHTTP(&countingWriter{w, &c.bytes}, r)
}

type countingWriter struct {
	http.ResponseWriter
	bytes *atomic.Int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.bytes.Add(int64(len(p)))
	return w.ResponseWriter.Write(p)
}

// A dependency more: on the next runner, only that one is downloaded.
func TestADependencyMoreDownloadsOnlyThat(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		manager
		base string
		soak bool
	}{
		{goModules, "golang:1", false},
		{npmPackages, "node:20", true},
		{pipPackages, "debian:bookworm", true},
		{debianPackages, "debian:bookworm", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.soak && !soaking() {
				t.Skip("SOAK is not set")
			}
			t.Parallel()
			r := mountRunner(t, kinds[0])
			upstream := &counted{Handler: tc.upstream}
			server := httptest.NewServer(upstream)
			t.Cleanup(server.Close)
			// The build reaches it by the machine's own network.
			address := "http://127.0.0.1:" + fmt.Sprint(server.Listener.Addr().(*net.TCPAddr).Port)
			r.write(t, "Dockerfile", strings.ReplaceAll(tc.dockerfile, "BASE", r.env.Base(tc.base)))
			r.write(t, ".dockerignore", "Dockerfile\n")
			build := func(dependencies int, options ...string) int64 {
				for name, content := range tc.files(tc.dependencies[:dependencies]) {
					r.write(t, name, content)
				}
				r.engine.Fresh(t)
				before := upstream.bytes.Load()
				o := r.on("master").with("--build-arg", "UPSTREAM="+address).run(t, 0, append([]string{r.image("1")}, options...)...)
				downloaded := upstream.bytes.Load() - before
				steps := o.report.Stages[0].Steps
				t.Logf("%d dependencies %v: %.2f MB downloaded, %.1f s for the step, %.1f s in all", dependencies, options,
					float64(downloaded)/1e6, steps[len(steps)-1].Seconds, o.report.Seconds)
				return downloaded
			}
			build(1)
			with := build(2)
			without := build(3, "--cache-mounts", "none")
			if tc.name == "apt" {
				// What there is to know of all packages is far larger than the
				// packages: it must not be downloaded again.
				if with > without/10 {
					t.Errorf("%d bytes were downloaded with the cache mounts, %d without", with, without)
				}
				return
			}
			if with < dependencySize || with >= 2*dependencySize {
				t.Errorf("%d bytes were downloaded, want one dependency of %d", with, dependencySize)
			}
			if without < 3*dependencySize {
				t.Errorf("%d bytes were downloaded without the cache mounts, want three dependencies", without)
			}
		})
	}
}
