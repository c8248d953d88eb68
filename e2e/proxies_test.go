package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/klauspost/compress/zstd"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// proxied is a project that loads packages by three package managers. The
// words in braces make new steps of the last three.
const proxied = `FROM DEBIAN AS apt
RUN apt-get update && apt-get install --yes --no-install-recommends {apt} && rm -rf /var/lib/apt/lists/*

FROM NODE AS npm
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --fetch-retries=0 {npm}

FROM GOLANG AS go
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download {go} && go version

FROM BASE
COPY --from=npm /app /app
COPY --from=go /src/go.sum /app/
`

const (
	packageJSON = `{"name":"x","version":"1.0.0","dependencies":{"is-odd":"3.0.1"}}
`
	// As npm writes it where no proxy is.
	packageLock = `{
  "name": "x",
  "version": "1.0.0",
  "lockfileVersion": 3,
  "requires": true,
  "packages": {
    "": {"name": "x", "version": "1.0.0", "dependencies": {"is-odd": "3.0.1"}},
    "node_modules/is-number": {
      "version": "6.0.0",
      "resolved": "https://registry.npmjs.org/is-number/-/is-number-6.0.0.tgz",
      "integrity": "sha512-Wu1VHeILBK8KAWJUAiSZQX94GmOE45Rg6/538fKwiloUu21KncEkYGPqob2oSZ5mUT73vLGrHQjKw3KMPwfDzg=="
    },
    "node_modules/is-odd": {
      "version": "3.0.1",
      "resolved": "https://registry.npmjs.org/is-odd/-/is-odd-3.0.1.tgz",
      "integrity": "sha512-CQpnWPrDwmP1+SMHXZhtLtJv90yiyVfluGsX5iNCVkrhQtU3TQHsUWPG9wkdk9Lgd5yNpAg9jQEo90CBaXgWMA==",
      "dependencies": {"is-number": "^6.0.0"}
    }
  }
}
`
	goMod = "module x\n\ngo 1.21\n\nrequire github.com/pkg/errors v0.9.1\n"
	goSum = `github.com/pkg/errors v0.9.1 h1:FEBLx1zS214owpjy7qsBeixbURkuhQAwrK5UwLGTwt4=
github.com/pkg/errors v0.9.1/go.mod h1:bwawxfHBFNV+L2hUp1rHADufV3IMtnDRdf1r5NINEl0=
`
)

// writeProxied writes the project; steps are the words by their names.
func writeProxied(t *testing.T, r *runner, steps map[string]string) {
	t.Helper()
	text := strings.NewReplacer("DEBIAN", r.env.Base("debian:bookworm"), "NODE", r.env.Base("node:20"), "GOLANG", r.env.Base("golang:1"),
		"{apt}", steps["apt"], "{npm}", steps["npm"], "{go}", steps["go"]).Replace(proxied)
	if steps["npm only"] != "" {
		_, text, _ = strings.Cut(text, "\n\n")
		text, _, _ = strings.Cut(text, "\n\n")
	}
	r.write(t, "Dockerfile", text)
	r.write(t, "package.json", packageJSON)
	r.write(t, "package-lock.json", packageLock)
	r.write(t, "go.mod", goMod)
	r.write(t, "go.sum", goSum)
}

// proxyKinds are both BuildKits that a proxy can be used on: the newest, and in
// a soak the oldest with its own frontend, which pulls all that is cached.
func proxyKinds(t *testing.T, test func(t *testing.T, r *runner)) {
	for _, k := range []kind{kinds[0], {"docker", testbed.Docker, dockerHost}} {
		t.Run(k.name, func(t *testing.T) {
			if k.engine == testbed.Docker && !soaking() {
				t.Skip("SOAK is not set")
			}
			t.Parallel()
			r := newRunner(t, k).on("master")
			if k.engine == testbed.Docker {
				r = r.with("--network", testbed.Network)
			}
			test(t, r)
		})
	}
}

const (
	allProxiedRan    = "apt=r npm=rrr go=rrr 3=rr"
	allProxiedCached = "apt=c npm=ccc go=ccc 3=cc"
)

// What was built with proxies is there for a build without, and the reverse.
// Nothing of a proxy stays in what is pushed, nor a trace in a lockfile.
func TestProxiesLeaveNoTrace(t *testing.T) {
	t.Parallel()
	proxyKinds(t, func(t *testing.T, r *runner) {
		servers := startProxies(t)
		words := map[string]string{"apt": "hello"}
		writeProxied(t, r, words)
		cold := r.with(servers.options()...).run(t, 0, r.image("1"))
		cold.wantSteps(t, allProxiedRan)
		cold.wantUnsaid(t, "docker-build-remote-cache.proxy", "warning")
		for _, s := range servers {
			if s.front.connections() < 2 { // one asks whether it is there
				t.Errorf("no step was led through %s", s.tool)
			}
		}

		r.engine.Fresh(t)
		r.run(t, 0, r.image("2")).wantSteps(t, allProxiedCached)

		// Other steps, without a proxy, and then with it.
		words["npm"], words["go"] = "--no-fund", "-x"
		writeProxied(t, r, words)
		r.engine.Fresh(t)
		r.run(t, 0, r.image("3")).wantSteps(t, "apt=c npm=ccr go=ccr 3=[cr]{2}")
		r.engine.Fresh(t)
		r.with(servers.options()...).run(t, 0, r.image("4")).wantSteps(t, allProxiedCached)

		p := &pushed{files: map[string]map[string]bool{}}
		for _, s := range servers {
			p.forbidden = append(p.forbidden, s.front.port())
		}
		p.search(t, r.repo, r.env.Base("debian:bookworm"), r.env.Base("node:20"), r.env.Base("golang:1"))
		for file, want := range map[string]string{"app/package-lock.json": packageLock, "app/go.sum": goSum} {
			if len(p.files[file]) != 1 || !p.files[file][want] {
				t.Errorf("%s is in %d forms in what was pushed, or changed", file, len(p.files[file]))
			}
		}
	})
}

// A proxy that is not there is left out, and one that goes away while a step
// loads through it costs that step a second try.
func TestProxiesDie(t *testing.T) {
	t.Parallel()
	proxyKinds(t, func(t *testing.T, r *runner) {
		servers := startProxies(t)
		options := servers.options()
		words := map[string]string{"apt": "hello"}
		if !soaking() {
			// npm alone shows it: its step cannot go on without the proxy.
			servers = servers[1:2]
			words["npm only"] = "true"
		}
		for _, s := range servers {
			// Killed in the middle, by the request for the package itself.
			s.front.dieAt(s.part)
			words[s.tool] = map[string]string{"apt": "bc", "npm": "--no-fund", "go": "-x"}[s.tool]
			writeProxied(t, r, words)
			r.engine.Fresh(t)
			died := r.with(options...).run(t, 0, r.image("1"))
			if s.front.alive() {
				t.Errorf("%s was not asked for %s", s.tool, s.part)
			}
			if s.tool != "go" { // which goes on by itself
				died.wantSaid(t, "^remote-cache: warning: the proxy for "+s.tool+", http://127.0.0.1:.*, does not answer, and was left out")
			}
			// Killed between two builds: the proxies that died are dead still.
			words[s.tool] = map[string]string{"apt": "hello bc", "npm": "--no-progress", "go": "-json"}[s.tool]
			writeProxied(t, r, words)
			r.engine.Fresh(t)
			dead := r.with(options...).run(t, 0, r.image("2"))
			dead.wantSaid(t, "^remote-cache: warning: the proxy for "+s.tool+", http://127.0.0.1:.*, does not answer, and was left out")
		}
	})
}

// A step that is not to be touched is not, and then it is another step.
func TestProxyNone(t *testing.T) {
	r := onBuildKit(t).on("master")
	r.write(t, "Dockerfile", "FROM BASE\nRUN : apt-get; test ! -e /etc/apt; mount | grep -c /etc/apt || true\n")
	r.run(t, 0, r.image("1")).wantSteps(t, "0=r")
	r.with("--proxy", "none").run(t, 0, r.image("2")).wantSteps(t, "0=r")
	r.with("--proxy", "npm=none").run(t, 0, r.image("3")).wantSteps(t, "0=c")
}

// The classic builder has no secrets: that its steps go direct is said.
func TestProxyOnClassicBuilder(t *testing.T) {
	t.Parallel()
	r := newRunner(t, rescueKinds[2].kind).on("master")
	r.write(t, "Dockerfile", "FROM BASE\nRUN : apt-get; test ! -e /etc/apt\n")
	r.with("--proxy", "apt=http://127.0.0.1:1").run(t, 0, r.image("1")).
		wantSaid(t, "^remote-cache: warning: the proxy for apt is not used: the classic builder knows no secrets: use BuildKit$")
	r.run(t, 0, r.image("2")).wantUnsaid(t, "the proxy")
}

// pushed is what a search through a repository has found.
type pushed struct {
	forbidden []string                   // texts that are not to be anywhere
	files     map[string]map[string]bool // contents of the files to compare, by name
}

// search looks through every manifest, config and layer that a tag leads to,
// but for the layers of base images.
func (p *pushed) search(t *testing.T, repo string, bases ...string) {
	t.Helper()
	repository, err := name.NewRepository(repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(repository)
	if err != nil {
		t.Fatal(err)
	}
	blobs := 0
	seen := map[string]bool{}
	for _, base := range bases {
		image, err := remote.Image(reference(t, base))
		if err != nil {
			t.Fatal(err)
		}
		layers, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range layers {
			digest, err := layer.Digest()
			if err != nil {
				t.Fatal(err)
			}
			seen[digest.String()] = true
		}
	}
	for _, tag := range tags {
		blobs += p.manifest(t, repository, repository.Tag(tag), seen)
	}
	if blobs < 5 {
		t.Errorf("only %d blobs were searched", blobs)
	}
}

func (p *pushed) manifest(t *testing.T, repository name.Repository, ref name.Reference, seen map[string]bool) (blobs int) {
	t.Helper()
	got, err := remote.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	if seen[got.Digest.String()] {
		return 0
	}
	seen[got.Digest.String()] = true
	p.text(t, ref.String(), got.Manifest)
	if got.MediaType.IsIndex() {
		index, err := v1.ParseIndexManifest(bytes.NewReader(got.Manifest))
		if err != nil {
			t.Fatal(err)
		}
		for _, child := range index.Manifests {
			blobs += p.manifest(t, repository, repository.Digest(child.Digest.String()), seen)
		}
		return blobs
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(got.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range append(manifest.Layers, manifest.Config) {
		if digest := blob.Digest.String(); !seen[digest] {
			seen[digest] = true
			blobs++
			p.blob(t, repository.Digest(digest))
		}
	}
	return blobs
}

func (p *pushed) blob(t *testing.T, ref name.Digest) {
	t.Helper()
	layer, err := remote.Layer(ref)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	raw, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	text := raw
	switch {
	case bytes.HasPrefix(raw, []byte{0x1f, 0x8b}):
		unpacker, err := gzip.NewReader(bytes.NewReader(raw))
		if err == nil {
			text, err = io.ReadAll(unpacker)
		}
		if err != nil {
			t.Fatal(err)
		}
	case bytes.HasPrefix(raw, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		unpacker, err := zstd.NewReader(nil)
		if err == nil {
			text, err = unpacker.DecodeAll(raw, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.text(t, ref.String(), text)
	for files := tar.NewReader(bytes.NewReader(text)); ; {
		header, err := files.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) && len(text) != len(raw) {
				t.Fatal(err)
			}
			return // or it is a config
		}
		if header.Name == "app/package-lock.json" || header.Name == "app/go.sum" || strings.HasSuffix(header.Name, "/00docker-build-remote-cache") || header.Name == "usr/local/lib/node_modules/npm/npmrc" {
			content, err := io.ReadAll(files)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(header.Name, "app/") {
				t.Errorf("%s holds %s", ref, header.Name)
			}
			if p.files[header.Name] == nil {
				p.files[header.Name] = map[string]bool{}
			}
			p.files[header.Name][string(content)] = true
		}
	}
}

func (p *pushed) text(t *testing.T, where string, text []byte) {
	t.Helper()
	for _, forbidden := range p.forbidden {
		if i := bytes.Index(text, []byte(forbidden)); i >= 0 {
			t.Errorf("%s holds %q", where, text[max(0, i-40):min(len(text), i+40)])
		}
	}
}

// The table of docs/proxies.md: what is loaded from outside for each tool.
func TestProxiesUpstream(t *testing.T) {
	if !soaking() {
		t.Skip("a measurement: SOAK=1")
	}
	t.Parallel()
	proxyKinds(t, func(t *testing.T, r *runner) {
		servers := startProxies(t)
		direct := startMeter(t)
		// Predefined arguments are in no step's key.
		outside := func(m *meter) []string {
			return []string{
				"--build-arg", "http_proxy=" + m.url, "--build-arg", "https_proxy=" + m.url,
				"--build-arg", "no_proxy=127.0.0.1,localhost",
			}
		}
		writeProxied(t, r, map[string]string{"apt": "hello"})
		var table strings.Builder
		row := func(what string, m *meter, options []string) {
			m.reset()
			for _, s := range servers {
				s.upstream.reset()
			}
			r.engine.Fresh(t)
			cold := r.inRepo(t).with(append(options, outside(m)...)...)
			cold.run(t, 0, cold.image("1")).wantSteps(t, allProxiedRan)
			fmt.Fprintf(&table, "| %s | %.2f |", what, float64(m.bytes.Load())/1e6)
			for _, s := range servers {
				fmt.Fprintf(&table, " %.2f |", float64(s.upstream.bytes.Load())/1e6)
			}
			table.WriteString("\n")
		}
		row("without", direct, nil)
		row("cold", direct, servers.options())
		row("warm", direct, servers.options())
		t.Logf("MB from outside: by steps, then by the proxies of apt, npm, go\n%s", &table)
		if file := os.Getenv("PROXIES_TABLE"); file != "" {
			if err := os.WriteFile(file+"-"+r.engine.Name, []byte(table.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range servers[1:] { // apt asks anew for its lists
			if s.upstream.bytes.Load() > 1<<20 {
				t.Errorf("%s loaded %d bytes that it had", s.tool, s.upstream.bytes.Load())
			}
		}
	})
}

// A base image is the same wherever it comes from: its steps are hits with the
// mirror, with another one, and without.
func TestProxyForDocker(t *testing.T) {
	r := onBuildKit(t).on("master")
	_, port, _ := strings.Cut(r.env.Registry, ":")
	hub := "FROM busybox\nRUN echo hub\nCOPY --from=busybox:latest /bin/busybox /again\n"
	r.write(t, "Dockerfile", hub)
	r.with("--proxy", "docker=http://127.0.0.1:"+port).run(t, 0, r.image("1")).wantSteps(t, "0=rr")
	r.engine.Fresh(t)
	r.with("--proxy", "docker=http://localhost:"+port).run(t, 0, r.image("2")).wantSteps(t, "0=cc")
	r.engine.Fresh(t)
	r.write(t, "Dockerfile", strings.NewReplacer("FROM busybox", "FROM BASE", "=busybox:latest", "=BASE").Replace(hub))
	r.run(t, 0, r.image("3")).wantSteps(t, "0=cc")
	// Of a registry that is named there is no mirror, so none is asked for.
	r.with("--proxy", "docker=http://127.0.0.1:1").run(t, 0, r.image("4")).wantUnsaid(t, "mirror")
}

// What is saved later, by another process, are the steps that ask for proxies,
// and the password of one is not in the file between.
func TestSaveOfStepsWithProxies(t *testing.T) {
	t.Parallel()
	for _, kind := range rescueKinds[:2] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			const dockerfile = "FROM BASE AS builder\nRUN : apt-get; echo done >/done\nRUN : apt-get; echo now in the step && sleep 600\n"
			r := newRunner(t, kind.kind)
			r.write(t, "Dockerfile", dockerfile)
			state := filepath.Join(t.TempDir(), "state")
			branch := r.on("feat/x").with("--checkpoint", "0", "--progress", "plain")
			p := branch.with("--proxy", "apt=http://me:hunter2@127.0.0.1:1").start(t, r.image("1"), "--state", state)
			p.await(t, " now in the step\n")
			awaitState(t, state, completed(map[bool]string{true: "RUN : apt-get; echo done >/done", false: "[builder 2/3]"}[kind.old]))
			p.kill(t)
			if raw, err := os.ReadFile(state); err != nil || bytes.Contains(raw, []byte("hunter2")) {
				t.Errorf("%v\n%s", err, raw)
			}
			r.verb(t, 0, "save", "--state", state).wantSaid(t, `builder is saved to .*`)

			r.engine.Fresh(t)
			r.write(t, "Dockerfile", strings.Replace(dockerfile, "sleep 600", "sleep 0", 1))
			branch.run(t, 0, r.image("1")).wantSteps(t, "builder=cr")
		})
	}
}
