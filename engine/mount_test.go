package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/internal/testbed"
	"github.com/docker/cli/cli/config/configfile"
)

// mountHelper builds the program that tests run inside cache mounts.
func mountHelper(t *testing.T) engine.Helper {
	t.Helper()
	path := filepath.Join(t.TempDir(), "helper")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./testdata/mounthelper")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the helper: %v\n%s", err, out)
	}
	return engine.Helper{Path: path, Args: []string{"reach"}}
}

// onEachMountEngine runs a test on two engines with cache mounts, the one that exports caches and
// the one that keeps them inside images.
func onEachMountEngine(t *testing.T, test func(*testing.T, *runner, engine.Selection)) {
	t.Parallel()
	for _, name := range []string{testbed.BuildKitd, testbed.Docker} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := testbed.Up(t, name)
			r := &runner{env: env, engine: env.Engine(t, name), repository: env.Repo(t)}
			s := engine.Selection{Config: configfile.New(""), ConfigDir: t.TempDir()}
			if name == testbed.Docker {
				s.DockerHost = r.engine.Address
			} else {
				s.BuildKitHost = r.engine.Address
			}
			test(t, r, s)
		})
	}
}

// keyed are the mounts of the key table: what each is at, and the options of
// the RUN that uses it. A step of our own has to reach each, and no other.
var keyed = []struct{ name, options string }{
	{"default id", "target=/m/default"},
	{"explicit id", "id=explicit,target=/m/x"},
	{"target that is not clean", "target=/m//unclean/../clean"},
	{"relative target", "target=relative"},
	{"owner", "id=explicit,target=/m/x,uid=1000"},
	{"owner and group", "id=explicit,target=/m/x,uid=1000,gid=1000"},
	{"mode", "id=explicit,target=/m/x,mode=0700"},
	{"owner and mode", "id=explicit,target=/m/x,uid=7,mode=0711"},
	{"stage", "id=explicit,target=/m/x,from=files"},
	{"directory of a stage", "id=directory,target=/m/x,from=files,source=/dir"},
	{"stage and owner", "id=explicit,target=/m/x,from=files,uid=3"},
	{"locked", "id=locked,target=/m/x,sharing=locked"},
	{"private", "id=private,target=/m/x,sharing=private"},
	{"slash in the id", "id=a/b,target=/m/x"},
	// Docker 20.10 does not expand them: it has no such mount.
	{"variables", "id=$KIND,target=${ROOT}/m"},
}

// keyedDockerfile has a step for each mount of the table that does something
// with its directory and its number.
func keyedDockerfile(s engine.Selection, do string) string {
	mounts := keyed
	if s.DockerHost != "" {
		mounts = mounts[:len(mounts)-1]
	}
	var text strings.Builder
	text.WriteString("FROM BASE AS files\nRUN mkdir /dir && touch /dir/begins\nFROM BASE\nARG ROOT=/m/root\nENV KIND=of-variable\nWORKDIR /work\n")
	for i, mount := range mounts {
		at := ""
		for option := range strings.SplitSeq(mount.options, ",") {
			if target, ok := strings.CutPrefix(option, "target="); ok {
				at = target
			}
		}
		fmt.Fprintf(&text, "RUN --mount=type=cache,%s "+do+"\n", mount.options, path.Clean(at), i)
	}
	return text.String()
}

// mountKeys are the keys of the mounts of a project in the order of the file.
func mountKeys(p project) []string {
	var keys []string
	for _, stage := range p.file.Stages {
		for _, in := range stage.Instructions {
			for _, m := range in.CacheMounts {
				keys = append(keys, m.Key())
			}
		}
	}
	return keys
}

// A step of our own reaches the very mount that the Dockerfile's step has used,
// whatever its options: each step leaves a file in its mount.
func TestMountStepReachesTheStepsMount(t *testing.T) {
	onEachMountEngine(t, func(t *testing.T, r *runner, s engine.Selection) {
		p := r.project(t, keyedDockerfile(s, "touch %s/step%d"), nil)
		b := r.startMounts(t, s, p, engine.MountRequest{Helper: mountHelper(t)})
		if o := b.Wait(); o.Result != engine.OK {
			t.Fatal(o.Err)
		}
		reach, keys := b.(engine.Mounter), mountKeys(p)
		if touched := reach.MountsTouched(); !slices.Equal(touched, keys) {
			t.Fatalf("touched are %q, want %q", touched, keys)
		}
		for i, key := range keys {
			names := askMount(t, key, "list", func(ctx context.Context, handler engine.MountHandler) error {
				return reach.ReachMount(ctx, key, handler)
			})
			var steps []string
			for _, name := range names {
				if strings.HasPrefix(name, "step") {
					steps = append(steps, name)
				}
			}
			if want := []string{fmt.Sprintf("step%d", i)}; !slices.Equal(steps, want) {
				t.Errorf("%s: mount %s holds %q, want the files of %q", keyed[i].name, key, names, want)
			}
		}
	})
}

// A step finds what was restored before it ran, whatever the options of its
// mount, and each mount is restored once.
func TestStepFindsWhatWasRestored(t *testing.T) {
	onEachMountEngine(t, func(t *testing.T, r *runner, s engine.Selection) {
		p := r.project(t, keyedDockerfile(s, "test -e %s/restored && echo %d")+"RUN --mount=type=cache,target=/other test ! -e /other/restored\n", nil)
		keys := mountKeys(p)
		var mu sync.Mutex
		restored := map[string]int{}
		b := r.startMounts(t, s, p, engine.MountRequest{
			Helper: mountHelper(t), Restorable: keys[:len(keys)-1],
			Restore: func(ctx context.Context, key string, reach func(context.Context, engine.MountHandler) error) {
				askMount(t, key, "write restored", func(_ context.Context, handler engine.MountHandler) error { return reach(ctx, handler) })
				mu.Lock()
				defer mu.Unlock()
				restored[key]++
			},
		})
		if o := b.Wait(); o.Result != engine.OK {
			t.Error(o.Err)
		}
		for _, key := range keys[:len(keys)-1] {
			if restored[key] != 1 {
				t.Errorf("%s was restored %d times", key, restored[key])
			}
		}
		if len(restored) != len(keys)-1 {
			t.Errorf("restored: %v", restored)
		}
	})
}

// However quick the steps are, none begins before its mount is restored where
// a step before it has changed, of its own stage or of another. What is a hit
// restores nothing. On BuildKit the definition is evaluated in parts, and a
// warm engine's own cache is not asked.
func TestQuickStepsFindWhatWasRestored(t *testing.T) {
	const rounds = 4
	const dockerfile = `FROM BASE AS below
COPY of-below /
RUN --mount=type=cache,id=B,target=/m touch /m/begun && test -e /m/restored
FROM below
COPY of-top /
RUN --mount=type=cache,id=T,target=/m touch /m/begun && test -e /m/restored
`
	env := testbed.Up(t, testbed.Docker)
	r := &runner{env: env, engine: env.Engine(t, testbed.Docker), repository: env.Repo(t)}
	s := engine.Selection{Config: configfile.New(""), ConfigDir: t.TempDir(), DockerHost: r.engine.Address}
	helper := mountHelper(t)
	type version struct{ ofBelow, below, ofTop, top string } // of the files and of the steps
	build := func(v version, want ...string) {
		t.Helper()
		// An id of its own gives a step another text and an empty mount.
		text := strings.NewReplacer("id=B", "id=below"+v.below, "id=T", "id=top"+v.top).Replace(dockerfile)
		p := r.project(t, text, map[string]string{"of-below": v.ofBelow, "of-top": v.ofTop})
		var restored []string
		b := r.startMounts(t, s, p, engine.MountRequest{
			Helper: helper, Restorable: mountKeys(p),
			Restore: func(ctx context.Context, key string, reach func(context.Context, engine.MountHandler) error) {
				restored = append(restored, key)
				names := askMount(t, key, "write restored", func(_ context.Context, handler engine.MountHandler) error { return reach(ctx, handler) })
				if !slices.Equal(names, []string{"restored"}) {
					t.Errorf("%s held %q once it was restored", key, names)
				}
			},
		})
		if o := b.Wait(); o.Result != engine.OK {
			t.Error(o.Err)
		}
		if !slices.Equal(restored, want) {
			t.Errorf("restored are %q, want %q", restored, want)
		}
		if touched := b.(engine.Mounter).MountsTouched(); !slices.Equal(touched, want) {
			t.Errorf("touched are %q, want %q", touched, want)
		}
	}
	for i := range rounds {
		n := fmt.Sprint(i)
		build(version{n, n, "", n}, `"below`+n+`"`, `"top`+n+`"`)
		build(version{n, n, n, n + "y"}, `"top`+n+`y"`)
		build(version{n, n, n, n + "y"})
	}
}

// startMounts starts a build that ends with the test.
func (r *runner) startMounts(t *testing.T, s engine.Selection, p project, m engine.MountRequest) engine.Build {
	t.Helper()
	request := r.request(p, nil)
	request.Mounts = m
	e, err := engine.Connect(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.CheckHelper(t.Context(), m.Helper); err != nil {
		t.Fatal(err)
	}
	b, err := e.Start(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(t, b) })
	return b
}

// askMount runs the helper in a mount.
func askMount(t *testing.T, key, command string, reach func(context.Context, engine.MountHandler) error) []string {
	t.Helper()
	var answer string
	err := reach(t.Context(), func(_ context.Context, conn io.ReadWriter) error {
		if _, err := io.WriteString(conn, command+"\n"); err != nil {
			return err
		}
		var err error
		answer, err = bufio.NewReader(conn).ReadString('\n')
		return err
	})
	if err != nil {
		t.Errorf("mount %s: %v", key, err)
	}
	return strings.Fields(answer)
}
