package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// upstream is a Debian repository and a Go module proxy that note what is
// loaded from them.
type upstream struct {
	url    string
	mu     sync.Mutex
	loaded map[string]int
}

func (u *upstream) times(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.loaded[name]
}

// newUpstream has the packages one and two, and the modules of these names.
func newUpstream(t *testing.T) *upstream {
	t.Helper()
	files := map[string][]byte{}
	for _, name := range []string{"one", "two"} {
		dir := t.TempDir()
		control := fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.test>\nDescription: %[1]s\n", name)
		if err := os.Mkdir(filepath.Join(dir, "DEBIAN"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "DEBIAN/control"), []byte(control), 0o644); err != nil {
			t.Fatal(err)
		}
		built := filepath.Join(t.TempDir(), name+".deb")
		if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--build", "--root-owner-group", dir, built).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		deb, err := os.ReadFile(built)
		if err != nil {
			t.Fatal(err)
		}
		files["/debian/"+name+".deb"] = deb
		files["/debian/Packages"] = fmt.Appendf(files["/debian/Packages"], "%sFilename: ./%s.deb\nSize: %d\nSHA256: %x\n\n", control, name, len(deb), sha256.Sum256(deb))

		module := "example.test/" + name
		var archive bytes.Buffer
		z := zip.NewWriter(&archive)
		for file, text := range map[string]string{"go.mod": "module " + module + "\n", "x.go": "package " + name + "\n"} {
			w, err := z.Create(module + "@v1.0.0/" + file)
			if err == nil {
				_, err = w.Write([]byte(text))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		files["/go/"+module+"/@v/v1.0.0.info"] = []byte(`{"Version":"v1.0.0"}`)
		files["/go/"+module+"/@v/v1.0.0.mod"] = []byte("module " + module + "\n")
		files["/go/"+module+"/@v/v1.0.0.zip"] = archive.Bytes()
	}
	u := &upstream{loaded: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Clean(r.URL.Path)
		u.mu.Lock()
		u.loaded[name]++
		u.mu.Unlock()
		content, ok := files[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(content) //nolint:errcheck // the client is gone then
	}))
	t.Cleanup(server.Close)
	u.url = server.URL
	return u
}

const dockerClean = "COPY docker-clean /etc/apt/apt.conf.d/docker-clean\n"

// dockerCleanFile is what Debian's image has there, and the testbed's has not.
const dockerCleanFile = `DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
`

// With --auto-cache-mounts what a step loads is loaded once, although the
// Dockerfile has no mounts and its image empties apt's cache; and no layer
// keeps it.
func TestAutoCacheMounts(t *testing.T) {
	r := onBuildKit(t)
	up := newUpstream(t)
	r = r.on("master").with("--push=false", "--auto-cache-mounts")
	r.write(t, "docker-clean", dockerCleanFile)
	write := func(packages, modules string) {
		r.write(t, "go.mod", "module example.test/app\n"+modules)
		r.write(t, "Dockerfile", "FROM "+r.env.Base("debian:bookworm")+" AS apt\n"+dockerClean+
			"RUN rm -f /etc/apt/sources.list.d/* && echo 'deb [trusted=yes] "+up.url+"/debian ./' >/etc/apt/sources.list\n"+
			"RUN apt-get update && apt install -y "+packages+"\n"+
			"RUN test -z \"$(ls -A /var/cache/apt/archives/*.deb /var/cache/apt/remote-cache /etc/apt/apt.conf.d/zz-remote-cache 2>/dev/null)\"\n"+
			"FROM "+r.env.Base("golang:1")+" AS go\n"+
			"ENV GOPROXY="+up.url+"/go GOSUMDB=off GOTOOLCHAIN=local GOFLAGS=-mod=mod\n"+
			"WORKDIR /src\nCOPY go.mod ./\nRUN go mod download\n"+
			"RUN test ! -e /go/pkg/mod\n")
	}
	write("one", "require example.test/one v1.0.0\n")
	cold := r.run(t, 0, r.image("1"))
	if strings.Contains(cold.stderr, "remote-cache.apt") || strings.Contains(cold.stderr, "--mount") {
		t.Errorf("mounts that nobody wrote are shown:\n%s", cold.stderr)
	}
	if len(cold.report.Advice) > 0 {
		t.Errorf("advice that has been followed: %v", cold.report.Advice)
	}
	r.run(t, 0, r.image("1")).wantSteps(t, "apt=cccc go=cccc")

	write("one two", "require example.test/one v1.0.0\nrequire example.test/two v1.0.0\n")
	r.run(t, 0, r.image("1")).wantSteps(t, "apt=ccrr go=crrr")
	for _, name := range []string{"one", "two"} {
		for _, file := range []string{"/debian/" + name + ".deb", "/go/example.test/" + name + "/@v/v1.0.0.zip"} {
			if n := up.times(file); n != 1 {
				t.Errorf("%s was loaded %d times", file, n)
			}
		}
	}

	// Without the option it is loaded again, as nothing else keeps it, and the
	// modules are in the layer, where the last step finds them.
	r.with("--auto-cache-mounts=false", "--keep-going").run(t, 1, r.image("1")).wantSteps(t, "apt=ccrr go=ccrf")
	for _, file := range []string{"/debian/one.deb", "/go/example.test/one/@v/v1.0.0.zip"} {
		if n := up.times(file); n != 2 {
			t.Errorf("%s was loaded %d times", file, n)
		}
	}
}

// On the BuildKit of Docker 20.10 too, which leaves empty mount points behind.
func TestAutoCacheMountsOnDocker20(t *testing.T) {
	t.Parallel()
	r := newRunner(t, kind{"docker", testbed.Docker, dockerHost})
	up := newUpstream(t)
	r = r.on("master").with("--push=false", "--network=host", "--auto-cache-mounts")
	r.write(t, "docker-clean", dockerCleanFile)
	for _, packages := range []string{"one", "one two"} {
		r.write(t, "Dockerfile", "FROM "+r.env.Base("debian:bookworm")+"\n"+dockerClean+
			"RUN rm -f /etc/apt/sources.list.d/* && echo 'deb [trusted=yes] "+up.url+"/debian ./' >/etc/apt/sources.list\n"+
			"RUN apt-get update && apt install -y "+packages+"\n"+
			"RUN test -z \"$(find /var/cache/apt /etc/apt/apt.conf.d/zz-remote-cache -type f -size +0 -name '*.deb' -o -name 'zz-*' -size +0)\"\n")
		r.run(t, 0, r.image("1"))
	}
	for _, file := range []string{"/debian/one.deb", "/debian/two.deb"} {
		if n := up.times(file); n != 1 {
			t.Errorf("%s was loaded %d times", file, n)
		}
	}
	r.vars = append(r.vars, "DOCKER_BUILDKIT=0")
	if o := r.run(t, 64, r.image("1")); !strings.Contains(o.stderr, "--auto-cache-mounts") {
		t.Errorf("the classic builder has none:\n%s", o.stderr)
	}
}
