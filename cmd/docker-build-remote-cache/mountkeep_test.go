package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/mounts"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// mountedDir is a build with one cache mount, which is a directory.
type mountedDir struct {
	engine.Build
	dir string
}

const dirKey = `"gomod"`

func (m mountedDir) MountsTouched() []string { return []string{dirKey} }

func (m mountedDir) ReachMount(ctx context.Context, _ string, handler engine.MountHandler) error {
	inside, outside := net.Pipe()
	defer outside.Close()
	served := make(chan error, 1)
	go func() {
		defer inside.Close()
		served <- mounts.Serve(ctx, m.dir, inside)
	}()
	if err := handler(ctx, outside); err != nil {
		return err
	}
	return <-served
}

// mountRunner runs builds with one cache mount against one registry.
type mountRunner struct {
	repository registry.Repository
	client     *registry.Client
}

func newMountRunner(t *testing.T) mountRunner {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("owners of files are restored by root alone")
	}
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	repository, err := registry.ParseRepository(strings.TrimPrefix(server.URL, "http://") + "/acme/app")
	if err != nil {
		t.Fatal(err)
	}
	return mountRunner{repository, registry.NewClient(registry.Options{Attempts: 1})}
}

// keeper is that of the next build.
func (r mountRunner) keeper(t *testing.T) *mountKeeper {
	t.Helper()
	file, err := stages.Parse([]byte("FROM base\nRUN --mount=type=cache,id=gomod,target=/go fetch\n"), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	plan := cache.NewPlan(cache.Request{
		Image: r.repository.Tagged("1"), Repository: r.repository, File: file, Stages: []int{0},
		Branch: cache.Branch{Name: "feat/x"}, Save: cache.SaveAlways, Unprefixed: cache.UnprefixedNever,
	})
	return newMountKeeper(&options{}, &prepared{plan: plan}, r.client, cache.Look(t.Context(), r.client, plan), engine.Helper{})
}

func (r mountRunner) save(t *testing.T, k *mountKeeper, dir string) *mountRecord {
	t.Helper()
	k.save(t.Context(), mountedDir{dir: dir}, engine.Outcome{Result: engine.OK})
	return k.records[dirKey]
}

func writeMount(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// restored is a directory that a keeper has filled, or found filled.
func restored(t *testing.T, k *mountKeeper, dir string) string {
	t.Helper()
	k.restore(t.Context(), dirKey, func(ctx context.Context, handler engine.MountHandler) error {
		return mountedDir{dir: dir}.ReachMount(ctx, dirKey, handler)
	})
	return dir
}

func wantSaved(t *testing.T, r *mountRecord, tags int, reason error) {
	t.Helper()
	if len(r.saved) != tags || !errors.Is(r.saveErr, reason) {
		t.Fatalf("saved to %v (%v), want %d tags and %v", r.saved, r.saveErr, tags, reason)
	}
	for _, one := range r.saved {
		if one.Err != nil {
			t.Fatal(one.Err)
		}
	}
}

func TestMountsAreKeptFromBuildToBuild(t *testing.T) {
	t.Parallel()
	r := newMountRunner(t)
	k := r.keeper(t)
	if asked := k.request(cache.View{}); len(asked.Restorable) != 0 {
		t.Errorf("restorable before anything was kept: %q", asked.Restorable)
	}
	wantSaved(t, r.save(t, k, t.TempDir()), 0, errMountEmpty)
	dir := t.TempDir()
	writeMount(t, dir, "one", "content")
	wantSaved(t, r.save(t, r.keeper(t), dir), 1, nil)

	k = r.keeper(t)
	if asked := k.request(cache.View{}); len(asked.Restorable) != 1 {
		t.Fatalf("restorable: %q", asked.Restorable)
	}
	dir = restored(t, k, t.TempDir())
	if raw, err := os.ReadFile(filepath.Join(dir, "one")); string(raw) != "content" {
		t.Fatalf("%q, %v", raw, err)
	}
	wantSaved(t, r.save(t, k, dir), 0, nil)
	if !k.records[dirKey].changes.Unchanged || k.lost() {
		t.Errorf("changes: %+v", k.records[dirKey].changes)
	}
	writeMount(t, dir, "two", "more")
	wantSaved(t, r.save(t, k, dir), 1, nil)

	// What was removed from a mount that was restored is gone.
	k = r.keeper(t)
	dir = restored(t, k, t.TempDir())
	if err := os.Remove(filepath.Join(dir, "one")); err != nil {
		t.Fatal(err)
	}
	wantSaved(t, r.save(t, k, dir), 1, nil)
	if left, _ := filepath.Glob(filepath.Join(restored(t, r.keeper(t), t.TempDir()), "*")); len(left) != 1 || filepath.Base(left[0]) != "two" {
		t.Errorf("left are %q", left)
	}
}

// A mount that began empty by mistake takes nothing away; one of which the
// artifact is damaged is kept anew.
func TestMountsThatWereNotRestored(t *testing.T) {
	t.Parallel()
	r := newMountRunner(t)
	dir := t.TempDir()
	writeMount(t, dir, "one", "content")
	wantSaved(t, r.save(t, r.keeper(t), dir), 1, nil)

	less := t.TempDir()
	writeMount(t, less, "two", "less")
	k := r.keeper(t)
	wantSaved(t, r.save(t, k, less), 0, errMountLess)
	if k.lost() {
		t.Error("save would try again for ever")
	}
	more := t.TempDir()
	writeMount(t, more, "two", "more than before")
	wantSaved(t, r.save(t, r.keeper(t), more), 1, nil)

	k = r.keeper(t)
	k.records[dirKey].tried, k.records[dirKey].restoreErr = true, mounts.ErrDamaged
	wantSaved(t, r.save(t, k, less), 1, nil)
}
