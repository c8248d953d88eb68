package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

const trustDockerfile = `FROM BASE AS builder
RUN --network=none echo built >/out
FROM BASE
COPY --from=builder /out /out
COPY file /file
`

// as is the runner in the environment of a recorded build on a CI platform
// (ci/testdata), with further variables.
func (r *runner) as(t *testing.T, recorded string, variables ...string) *runner {
	t.Helper()
	file := filepath.Join("..", "ci", "testdata", filepath.FromSlash(recorded)+".env")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := *r
	other.vars = slices.Clone(r.vars)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if name == "GITHUB_EVENT_PATH" {
			if value, err = filepath.Abs(filepath.Join(filepath.Dir(file), value)); err != nil {
				t.Fatal(err)
			}
		}
		other.vars = append(other.vars, name+"="+value)
	}
	other.vars = append(other.vars, variables...)
	return &other
}

// loggedIn is the runner with a repository of the registry that wants
// credentials, and with these, which are returned too.
func (r *runner) loggedIn(t *testing.T) (*runner, remote.Option) {
	t.Helper()
	env := testbed.Up(t, testbed.RegistryAuth)
	dir := t.TempDir()
	credentials := base64.StdEncoding.EncodeToString([]byte(env.RegistryAuthUser + ":" + env.RegistryAuthPassword))
	config := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, env.RegistryAuth, credentials)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	other := *r
	other.vars = append(slices.Clone(r.vars), "DOCKER_CONFIG="+dir)
	_, path, _ := strings.Cut(r.repo, "/")
	other.repo = env.RegistryAuth + "/" + path
	return &other, remote.WithAuth(&authn.Basic{Username: env.RegistryAuthUser, Password: env.RegistryAuthPassword})
}

// tags are those of the runner's repository with the digests they refer to.
func (r *runner) tags(t *testing.T, options ...remote.Option) map[string]string {
	t.Helper()
	repository, err := name.NewRepository(r.repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := remote.List(repository, options...)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for _, tag := range listed {
		head, err := remote.Head(repository.Tag(tag), options...)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = head.Digest.String()
	}
	return tags
}

// A stranger's build, with credentials that the registry would accept, reads
// the caches and writes none.
func TestAForkWritesNothing(t *testing.T) {
	r, login := onBuildKit(t).loggedIn(t)
	r.write(t, "Dockerfile", trustDockerfile)
	r.write(t, "file", "ours")
	// github/push is a build of the branch feat/x; the recorded forks' pull
	// requests go to trunk.
	r.as(t, "github/push").run(t, 0, r.image("1"), "--branch", "trunk")
	r.write(t, "file", "of another branch") // so that a view has to be made of two
	r.as(t, "github/push").run(t, 0, r.image("1"), "--branch", "other")
	before := r.tags(t, login)
	if before["trunk-builder"] == "" || before["builder"] == "" || before["1"] == "" {
		t.Fatalf("the own build wrote %v", before)
	}

	r.write(t, "file", "theirs")
	for _, recorded := range []string{"github/fork-pull-request", "github/fork-pull-request-target", "github/unknown-comment", "circleci/fork-pull-request", "azure/fork-github-pull-request"} {
		r.engine.Fresh(t)
		fork := r.as(t, recorded).with("--default-branch", "trunk")
		o := fork.run(t, 0, r.image("2"), "--push=false", "--cache-to", "type=registry,ref="+r.image("stranger"))
		if diff := cmp.Diff(before, r.tags(t, login)); diff != "" {
			t.Errorf("%s wrote (-before +after):\n%s", recorded, diff)
		}
		if status := o.report.Stages[0].Steps[0].Status; status != report.Cached {
			t.Errorf("%s read nothing: its first step %s\n%s", recorded, status, o.stderr)
		}
		if o.report.Trust == "own" || !slices.ContainsFunc(o.report.Skips, func(s report.Skip) bool {
			return s.What == "saving caches" && strings.Contains(s.Reason, "cache is read-only")
		}) {
			t.Errorf("%s: trust %s, skips %v", recorded, o.report.Trust, o.report.Skips)
		}
	}

	// The image is not a cache, and its push the pipeline's own wish; only a
	// tag that caches are read from is out of a stranger's reach.
	fork := r.as(t, "github/fork-pull-request")
	if o := fork.run(t, 0, r.image("2")); !strings.Contains(o.stderr, "--push=false leaves it out") {
		t.Errorf("the push is not spoken of:\n%s", o.stderr)
	}
	o := fork.run(t, 0, r.repo) // latest
	after := r.tags(t, login)
	if after["2"] == "" || o.report.Result.Pushed {
		t.Errorf("pushed: %v, 2 is %q", o.report.Result.Pushed, after["2"])
	}
	delete(after, "2")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("a push wrote (-before +after):\n%s", diff)
	}
}

// readOnlyRegistry is the testbed's registry for somebody who may not write,
// which the registry itself cannot be told.
func readOnlyRegistry(t *testing.T, env *testbed.Env) (host string) {
	t.Helper()
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: env.Registry})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			pass.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// A laptop with read rights gets the build that CI made, and is told once that
// it saves nothing.
func TestWithoutTheRightToWrite(t *testing.T) {
	r := onBuildKit(t)
	r.write(t, "Dockerfile", trustDockerfile)
	r.write(t, "file", "ours")
	r.on("master").run(t, 0, r.image("1"))
	before := r.tags(t)

	laptop := *r.on("feat")
	_, path, _ := strings.Cut(r.repo, "/")
	laptop.repo = readOnlyRegistry(t, r.env) + "/" + path
	r.engine.Fresh(t)
	r.write(t, "file", "changed")
	o := laptop.run(t, 0, laptop.image("1"), "--push=false")
	if status := o.report.Stages[0].Steps[0].Status; status != report.Cached {
		t.Errorf("nothing was read: the first step %s\n%s", status, o.stderr)
	}
	if n := strings.Count(o.stderr, "warning: "); n != 1 || !strings.Contains(o.stderr, "no cache is saved; run docker login ") {
		t.Errorf("%d warnings:\n%s", n, o.stderr)
	}
	if !slices.ContainsFunc(o.report.Skips, func(s report.Skip) bool { return s.What == "saving caches" }) {
		t.Errorf("skips = %v", o.report.Skips)
	}

	// To push is what was asked for: that it fails is a failure.
	o = laptop.run(t, 1, laptop.image("2"))
	if !strings.Contains(o.stderr, "hint: run docker login ") {
		t.Errorf("no hint:\n%s", o.stderr)
	}
	if diff := cmp.Diff(before, r.tags(t)); diff != "" {
		t.Errorf("written (-before +after):\n%s", diff)
	}
}
