package e2e

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
)

// pipProject is what people have on Azure, where PipAuthenticate makes another
// INDEX_URL with another token in every run.
const pipProject = `FROM PYTHON
ENV PIP_INDEX_URL=PUBLIC PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Set index for package installation of our own python packages
ARG INDEX_URL
ENV PIP_EXTRA_INDEX_URL=$INDEX_URL
COPY requirements.txt /app/
WORKDIR /app
RUN pip install --no-cache -r requirements.txt && echo "installed from $PIP_EXTRA_INDEX_URL"
COPY . /app/
`

// packageIndex is a Python package index that asks for a token.
type packageIndex struct {
	*httptest.Server
	wheel []byte

	mu     sync.Mutex
	token  string
	served int // files, with the token of then
}

func newPackageIndex(t *testing.T) *packageIndex {
	t.Helper()
	p := &packageIndex{wheel: wheel(t)}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

const wheelName = "acme_lib-1.0-py3-none-any.whl"

// wheel is a package as pip installs it
// (packaging.python.org/specifications/binary-distribution-format).
func wheel(t *testing.T) []byte {
	t.Helper()
	var file bytes.Buffer
	w := zip.NewWriter(&file)
	for _, f := range [][2]string{
		{"acme_lib/__init__.py", "name = 'acme'\n"},
		{"acme_lib-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme-lib\nVersion: 1.0\n"},
		{"acme_lib-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{"acme_lib-1.0.dist-info/RECORD", "acme_lib/__init__.py,,\nacme_lib-1.0.dist-info/METADATA,,\nacme_lib-1.0.dist-info/WHEEL,,\nacme_lib-1.0.dist-info/RECORD,,\n"},
	} {
		entry, err := w.Create(f[0])
		if err == nil {
			_, err = io.WriteString(entry, f[1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// ServeHTTP is a simple repository (PEP 503), empty below /public/.
func (p *packageIndex) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	private, ok := strings.CutPrefix(r.URL.Path, "/private/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if user, password, _ := r.BasicAuth(); user != "build" || password != p.token {
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, "another token", http.StatusUnauthorized)
		return
	}
	switch private {
	case "simple/acme-lib/":
		fmt.Fprintf(w, `<!DOCTYPE html><a href="../../files/%s">%[1]s</a>`, wheelName)
	case "files/" + wheelName:
		p.served++
		w.Write(p.wheel)
	default:
		http.NotFound(w, r)
	}
}

// renew makes another token and returns it.
func (p *packageIndex) renew() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token = "token-" + rand.Text()
	return p.token
}

// address is that of the index with a token.
func (p *packageIndex) address(token string) string {
	return strings.Replace(p.URL, "://", "://build:"+token+"@", 1) + "/private/simple/"
}

func (r *runner) writePipProject(t *testing.T, index *packageIndex) {
	t.Helper()
	r.write(t, "Dockerfile", strings.NewReplacer("PYTHON", r.env.Base("python:3"), "PUBLIC", index.URL+"/public/").Replace(pipProject))
	r.write(t, "requirements.txt", "acme-lib==1.0\n")
	r.write(t, "app.py", "import acme_lib\n")
}

// setting is the runner with a variable in its environment.
func (r *runner) setting(variable string) *runner {
	other := *r
	other.vars = append(append([]string{}, r.vars...), variable)
	return &other
}

// The token differs in every run, and so may be missing: what was installed
// with any is installed, and none of them is anywhere.
func TestVolatileTokenOfPip(t *testing.T) {
	t.Parallel()
	for _, k := range rescueKinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, k.kind).on("master").with("--network", testbed.Network, "--progress", "plain")
			index := newPackageIndex(t)
			r.writePipProject(t, index)
			state := filepath.Join(t.TempDir(), "state")
			var tokens, texts []string
			build := func(status int, tag, token string) outcome {
				args := []string{r.image(tag), "--volatile-arg", "INDEX_URL", "--state", state}
				on := r
				if token != "" {
					on = r.setting("INDEX_URL=" + index.address(token))
					tokens = append(tokens, token)
				}
				o := on.run(t, status, args...)
				raw, err := os.ReadFile(state)
				if err != nil {
					t.Fatal(err)
				}
				texts = append(texts, o.stdout, o.stderr, string(raw), fmt.Sprintf("%+v", o.report))
				return o
			}

			wantCold := "0=rrrr"
			if !k.old {
				index.renew()
				refused := build(1, "1", "token-that-has-expired")
				refused.wantSteps(t, "0=rrf-")
				refused.wantSaid(t, `^Dockerfile:8$`, `>>> RUN pip install --no-cache -r requirements.txt && echo`, `4/5\] RUN pip install`)
				refused.wantUnsaid(t, `docker-build-remote-cache\.`)
				wantCold = "0=ccrr"
				r.engine.Fresh(t)
			}
			cold := build(0, "1", index.renew())
			cold.wantSteps(t, wantCold)
			cold.wantSaid(t, `installed from \*\*\*`, `PIP_EXTRA_INDEX_URL \(line 5\) is set for RUN steps only`)

			r.engine.Fresh(t)
			r.write(t, "app.py", "import acme_lib # changed\n")
			changed := build(0, "2", index.renew())
			changed.wantSteps(t, "0=cccr")

			r.engine.Fresh(t)
			without := build(0, "3", "")
			without.wantSteps(t, "0=cccc")
			if index.served != 1 {
				t.Errorf("the package was downloaded %d times", index.served)
			}

			files := r.env.Pushed(t, r.repo)
			if len(holding(t, files, "acme_lib/__init__.py")) == 0 {
				t.Error("the search does not even find what was installed")
			}
			for _, token := range tokens {
				if found := holding(t, files, written(token)...); len(found) > 0 {
					t.Errorf("%s was pushed in %s", token, found)
				}
				for _, text := range texts {
					if strings.Contains(text, token) {
						t.Errorf("%s is in\n%s", token, text)
					}
				}
			}
		})
	}
}

// written are the ways in which a token could stand somewhere.
func written(token string) []string {
	return []string{token, base64.StdEncoding.EncodeToString([]byte("build:" + token)), url.QueryEscape("build:" + token)}
}

// holding are the files in which a text stands, decompressed where they are
// compressed.
func holding(t *testing.T, files []string, texts ...string) (found []string) {
	t.Helper()
	for _, file := range files {
		content, err := decompressed(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, text := range texts {
			if bytes.Contains(content, []byte(text)) {
				found = append(found, file)
			}
		}
	}
	return found
}

func decompressed(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content := bufio.NewReader(f)
	magic, _ := content.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		unzipped, err := gzip.NewReader(content)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(unzipped)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		unzipped, err := zstd.NewReader(content)
		if err != nil {
			return nil, err
		}
		defer unzipped.Close()
		return io.ReadAll(unzipped)
	}
	return io.ReadAll(content)
}

// What would cost is told before it does, and what has cost after it did, with
// the option that ends it; values are not told.
func TestWarnsBeforeItCosts(t *testing.T) {
	r := onBuildKit(t).on("master").with("--progress", "plain")
	r.write(t, "Dockerfile", "FROM BASE\nCOPY src.txt /\nARG INDEX\nARG DIR=x\nRUN echo one >/one\nRUN echo two >/two\nWORKDIR /$DIR\n")
	r.write(t, "src.txt", "source\n")
	const credential = "credential-of-mine"
	index := func(n int) string { return fmt.Sprintf("INDEX=https://build:%s-%d@example.com/", credential, n) }

	cold := r.run(t, 0, r.image("1"), "--build-arg", index(1), "--build-arg", "DIR=https://"+credential+"@example.com")
	cold.wantSteps(t, "0=rrrr")
	cold.wantSaid(t, `warning: --build-arg INDEX looks like a credential \(a URL with a password\): .*; give it with --volatile-arg INDEX$`,
		`warning: --build-arg DIR looks like a credential .* with --secret$`)
	cold.wantUnsaid(t, "since the last build", "^remote-cache:.*"+credential)

	r.engine.Fresh(t)
	busted := r.run(t, 0, r.image("1"), "--build-arg", index(2), "--build-arg", "DIR=y")
	busted.wantSteps(t, "0=crrr")
	busted.wantSaid(t, `the build argument INDEX has changed since the last build: 3 steps ran again; .* --volatile-arg INDEX$`)
	busted.wantUnsaid(t, credential)

	r.engine.Fresh(t)
	same := r.run(t, 0, r.image("1"), "--build-arg", index(2), "--build-arg", "DIR=y")
	same.wantSteps(t, "0=cccc")
	same.wantUnsaid(t, "since the last build")

	// Where the sources have changed too, the argument is not to blame.
	r.engine.Fresh(t)
	r.write(t, "src.txt", "source, changed\n")
	both := r.run(t, 0, r.image("1"), "--build-arg", index(3), "--build-arg", "DIR=y")
	both.wantSteps(t, "0=rrrr")
	both.wantUnsaid(t, "since the last build")

	r.engine.Fresh(t)
	other := r.run(t, 0, r.image("1"), "--build-arg", index(3), "--build-arg", "DIR=y", "--network", "none", "--add-host", "db:10.0.0.1")
	other.wantSteps(t, "0=crrr")
	other.wantSaid(t, `warning: the cache of 0 was made with --network default, and this build has --network none: its RUN steps will not be found there$`,
		`warning: the cache of 0 was made with --add-host for no name, and this build has --add-host for db:`)

	// The search of TestVolatileTokenOfPip finds what a build argument leaks.
	if len(holding(t, r.env.Pushed(t, r.repo), credential)) == 0 {
		t.Error("a build argument is found nowhere")
	}
}

// What an engine cannot do is said before it builds, with the line and the way
// out.
func TestVolatileIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		says   []string
	}{
		"classic": {64, []string{`^error: .*--volatile-arg T.*classic builder`, `^hint: .*DOCKER_BUILDKIT=1`}},
		"docker":  {1, []string{`^error: dockerfile line 3: this engine can give the volatile ARG T only to commands of a shell$`, `^hint: RUN in exec form`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, k := range rescueKinds {
				if k.name != name {
					continue
				}
				r := newRunner(t, k.kind)
				r.write(t, "Dockerfile", "FROM BASE\nARG T\nRUN [\"true\"]\n")
				o := r.on("master").run(t, c.status, r.image("1"), "--volatile-arg", "T=of-mine")
				o.wantSaid(t, c.says...)
				o.wantUnsaid(t, "of-mine", `\[2/2\]`)
			}
		})
	}
}

// What a killed build left is saved by a process that does not know the value,
// and found by one that has another.
func TestSaveWithoutTheVolatileValue(t *testing.T) {
	t.Parallel()
	for _, kind := range rescueKinds[:2] {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, kind.kind)
			const dockerfile = "FROM BASE AS builder\nARG T\nENV U=u-$T\nRUN test \"$U\" = \"u-$T\" && echo done >/done\nRUN echo now in the step && sleep 600\n"
			r.write(t, "Dockerfile", dockerfile)
			state := filepath.Join(t.TempDir(), "state")
			branch := r.on("feat/x").with("--volatile-arg", "T", "--progress", "plain")
			p := branch.setting("T=first-of-mine").with("--checkpoint", "0").start(t, r.image("1"), "--state", state)
			p.await(t, " now in the step\n")
			step := "[builder 2/3]"
			if kind.old {
				step = "RUN test"
			}
			awaitState(t, state, completed(step))
			p.kill(t)
			raw, err := os.ReadFile(state)
			if err != nil || bytes.Contains(raw, []byte("of-mine")) {
				t.Errorf("%v\n%s", err, raw)
			}
			r.verb(t, 0, "save", "--state", state).wantSaid(t, `builder is saved to .*`)

			r.engine.Fresh(t)
			r.write(t, "Dockerfile", strings.Replace(dockerfile, "sleep 600", "sleep 0", 1))
			branch.setting("T=second-of-mine").run(t, 0, r.image("1")).wantSteps(t, "builder=cr")

			// A step that runs without a value sees an empty one.
			r.write(t, "Dockerfile", "FROM BASE\nARG T\nENV U=u-$T\nRUN test -z \"$T\" && test \"$U\" = u-\n")
			branch.run(t, 0, r.image("1")).wantSteps(t, "0=r")
		})
	}
}
