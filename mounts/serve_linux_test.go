package mounts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// plant makes a mount of so many files in so many directories.
func plant(t testing.TB, dir string, directories, files int) {
	t.Helper()
	for d := range directories {
		in := filepath.Join(dir, fmt.Sprintf("d%04d", d))
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range files {
			if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("f%d", f)), fmt.Appendf(nil, "%d %d %s", d, f, anyBytes[:d*10]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// planted is a mount that plant has made, and what was saved of it.
func planted(t testing.TB, directories, files int) (dir string, state State, blobs *store) {
	t.Helper()
	dir, blobs = t.TempDir(), newStore()
	plant(t, dir, directories, files)
	state, _ = saveDir(t, dir, nil, Mark{}, blobs)
	return dir, state, blobs
}

// holds checks that a mount is as a fingerprint says.
func holds(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, fingerprint(t, dir)); diff != "" {
		t.Errorf("the mount (-want +got):\n%s", diff)
	}
}

// One tree gives the same bytes, whoever saves it.
func TestSavingIsDeterministic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plant(t, dir, 20, 10)
	var manifests []string
	for range 3 {
		blobs := newStore()
		state, _ := saveDir(t, dir, nil, Mark{}, blobs)
		raw, err := state.Manifest(map[string]string{"a": "b"})
		if err != nil {
			t.Fatal(err)
		}
		manifests = append(manifests, string(raw))
		// What was restored is another directory of the same tree.
		dir = t.TempDir()
		restoreDir(t, dir, state, blobs)
	}
	if manifests[0] != manifests[1] || manifests[1] != manifests[2] {
		t.Errorf("three manifests of one tree: %s", strings.Join(manifests, "\n"))
	}
}

// Only what is new is uploaded: not what is renamed, touched, copied or gone.
func TestOnlyNewContentsAreUploaded(t *testing.T) {
	t.Parallel()
	dir, blobs := t.TempDir(), newStore()
	plant(t, dir, 20, 20)
	state, first := saveDir(t, dir, nil, Mark{}, blobs)
	do := func(errs ...error) {
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(dir + "/d0003/f3")
	do(err)
	do(
		os.Rename(dir+"/d0001", dir+"/e"),
		os.Chtimes(dir+"/d0002/f2", time.Time{}, time.Unix(1, 2)),
		os.Chmod(dir+"/d0002/f3", 0o600),
		os.WriteFile(dir+"/copy", content, 0o600),
		os.Link(dir+"/d0003/f4", dir+"/link"),
		os.RemoveAll(dir+"/d0004"),
	)
	state, saved := saveDir(t, dir, &state, Mark{}, blobs)
	if saved.New != 0 || len(state.Packs) != 1 || saved.Uploaded > first.Uploaded/4 || saved.Removed != 1+20+1+20 {
		t.Errorf("%+v", saved)
	}
	do(os.WriteFile(dir+"/new", []byte("new"), 0o600))
	state, saved = saveDir(t, dir, &state, Mark{}, blobs)
	if saved.New != 1 || saved.NewBytes != 3 || len(state.Packs) != 2 || saved.Changed != 2 {
		t.Errorf("%+v", saved)
	}
	to := t.TempDir()
	restoreDir(t, to, state, blobs)
	holds(t, to, fingerprint(t, dir))
}

// A mount that holds anything stays as it is.
func TestAWarmMountIsLeftAlone(t *testing.T) {
	t.Parallel()
	_, state, _ := planted(t, 2, 2)
	to := t.TempDir()
	if err := os.WriteFile(to+"/mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(t, to)
	// Not even asked for are the blobs.
	if restored := restoreDir(t, to, state, newStore()); !restored.Warm || restored.Mark != (Mark{}) {
		t.Errorf("%+v", restored)
	}
	holds(t, to, before)
}

// Two builds that restore one mount at once: one does, the other waits and
// finds it warm.
func TestTwoRestoresAtOnce(t *testing.T) {
	t.Parallel()
	from, state, blobs := planted(t, 30, 10)
	to := t.TempDir()
	var group sync.WaitGroup
	warm := make([]bool, 4)
	for i := range warm {
		group.Go(func() { warm[i] = restoreDir(t, to, state, blobs).Warm })
	}
	group.Wait()
	slices.SortFunc(warm, func(a, b bool) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if !slices.Equal(warm, []bool{false, true, true, true}) {
		t.Errorf("warm: %v", warm)
	}
	holds(t, to, fingerprint(t, from))
}

// gated blobs stop at the first pack until they are let go.
type gated struct {
	Blobs
	reached chan struct{} // closed when the pack was asked for
	proceed chan struct{}
	after   int64 // bytes of the pack
}

func newGate(blobs Blobs, after int64) gated {
	return gated{blobs, make(chan struct{}), make(chan struct{}), after}
}

func (g gated) Get(ctx context.Context, blob ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := g.Blobs.Get(ctx, blob)
	if err != nil || blob.MediaType != MediaTypePack {
		return r, err
	}
	rest := io.MultiReader(io.LimitReader(r, g.after), once(func() { close(g.reached); <-g.proceed }), r)
	return struct {
		io.Reader
		io.Closer
	}{rest, r}, nil
}

// once is a reader of nothing that calls a function.
type once func()

func (o once) Read([]byte) (int, error) { o(); return 0, io.EOF }

// A build that fills the mount while it is restored keeps what it wrote.
func TestAMountFilledMeanwhileIsWarm(t *testing.T) {
	t.Parallel()
	_, state, store := planted(t, 3, 3)
	to := t.TempDir()
	blobs := newGate(store, 10)
	go func() {
		<-blobs.reached
		if err := os.WriteFile(to+"/theirs", []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
		close(blobs.proceed)
	}()
	if restored := restoreDir(t, to, state, blobs); !restored.Warm {
		t.Errorf("%+v", restored)
	}
	if names := fingerprintNames(t, to); len(names) != 1 || !names["theirs"] {
		t.Errorf("the mount holds %v", names)
	}
}

// A mount that is being restored, or was not to its end, is not saved.
func TestAPartIsNotSaved(t *testing.T) {
	t.Parallel()
	_, state, store := planted(t, 3, 3)
	to := t.TempDir()
	blobs := newGate(store, 10)
	restoring := make(chan Restored)
	go func() { restoring <- restoreDir(t, to, state, blobs) }()
	<-blobs.reached
	var err error
	served := serving(t, to, func(conn net.Conn) { _, _, err = Save(t.Context(), conn, nil, Mark{}, store, Limits{}) })
	if !errors.Is(err, ErrInterrupted) || !errors.Is(served, ErrInterrupted) {
		t.Errorf("Save: %v, Serve: %v", err, served)
	}
	close(blobs.proceed)
	if restored := <-restoring; restored.Warm {
		t.Errorf("%+v", restored)
	}
}

func TestLimitsOfASave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plant(t, dir, 10, 10)
	for name, limits := range map[string]Limits{"bytes": {Bytes: 1000}, "entries": {Entries: 50}} {
		var err error
		serving(t, dir, func(conn net.Conn) { _, _, err = Save(t.Context(), conn, nil, Mark{}, newStore(), limits) })
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// refusing is a repository nothing can be written to.
type refusing struct{ Blobs }

var errRefused = errors.New("refused")

func (refusing) Put(context.Context, string, io.Reader) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errRefused
}

func TestASaveThatIsRefusedEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/large", anyBytes, 0o600); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(t, dir)
	var err error
	served := serving(t, dir, func(conn net.Conn) { _, _, err = Save(t.Context(), conn, nil, Mark{}, refusing{newStore()}, Limits{}) })
	if !errors.Is(err, errRefused) || served == nil {
		t.Errorf("Save: %v, Serve: %v", err, served)
	}
	holds(t, dir, before)
}

// The end of the context ends both sides, whatever they wait for.
func TestTheEndOfTheContextEndsARestore(t *testing.T) {
	t.Parallel()
	_, state, store := planted(t, 3, 3)
	to := t.TempDir()
	blobs := newGate(store, 10)
	defer close(blobs.proceed)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-blobs.reached
		cancel()
	}()
	var err error
	serving(t, to, func(conn net.Conn) { _, err = Restore(ctx, conn, state, blobs, Limits{}) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if names := fingerprintNames(t, to); len(names) > 0 {
		t.Errorf("the mount holds %v", names)
	}
}

// serveVariable makes of the test's own binary a Serve that can be killed: the
// directory and the socket, with a line between them.
const serveVariable = "MOUNTS_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir, socket, ok := strings.Cut(os.Getenv(serveVariable), "\n"); ok {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			err = Serve(context.Background(), dir, conn)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killable starts a Serve as a process of its own.
func killable(t *testing.T, dir string) (net.Conn, *exec.Cmd) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), self)
	process.Env = []string{serveVariable + "=" + dir + "\n" + listener.Addr().String()}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn, process
}

// A restore that is killed at any moment leaves a mount that neither Save nor
// the next Restore takes for whole, until that has filled it.
func TestKillDuringRestore(t *testing.T) {
	t.Parallel()
	from, state, store := planted(t, 300, 1)
	want := fingerprint(t, from)
	size := state.Packs[0].Blob.Size
	kill := func(t *testing.T, blobs Blobs, when func(*exec.Cmd)) {
		to := t.TempDir()
		conn, process := killable(t, to)
		go when(process)
		_, err := Restore(t.Context(), conn, state, blobs, Limits{})
		conn.Close()
		process.Wait()
		names := fingerprintNames(t, to)
		if len(names) > 0 && !names[reservedName] {
			// It came to its end before it was killed.
			if diff := cmp.Diff(want, fingerprint(t, to)); diff != "" {
				t.Errorf("Restore said %v, and the mount has no sign of it (-want +got):\n%s", err, diff)
			}
			return
		}
		if err == nil {
			t.Error("Restore took no notice")
		}
		if len(names) > 0 {
			serving(t, to, func(conn net.Conn) { _, _, err = Save(t.Context(), conn, nil, Mark{}, store, Limits{}) })
			if !errors.Is(err, ErrInterrupted) {
				t.Errorf("Save: %v", err)
			}
		}
		if restored := restoreDir(t, to, state, store); restored.Warm {
			t.Error("the next Restore takes the mount for warm")
		}
		holds(t, to, want)
	}
	for _, after := range []int64{0, 1, size / 4, size / 2, size - 1, size} {
		t.Run(fmt.Sprintf("after %d of %d bytes", after, size), func(t *testing.T) {
			t.Parallel()
			blobs := newGate(store, after)
			kill(t, blobs, func(process *exec.Cmd) {
				<-blobs.reached
				process.Process.Kill()
				close(blobs.proceed)
			})
		})
	}
	// And while everything moves to its place: whatever moment is met.
	for moved := range 6 {
		t.Run(fmt.Sprintf("when %d names have moved", moved*50), func(t *testing.T) {
			t.Parallel()
			kill(t, store, func(process *exec.Cmd) {
				dir, _, _ := strings.Cut(strings.TrimPrefix(process.Env[0], serveVariable+"="), "\n")
				for {
					if entries, err := os.ReadDir(dir); err != nil || len(entries) > 1+moved*50 {
						break
					}
				}
				process.Process.Kill()
			})
		})
	}
}

// A save that is killed says so, and the next one is as if it had not been.
func TestKillDuringSave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plant(t, dir, 40, 5)
	store := newStore()
	previous, _ := saveDir(t, dir, nil, Mark{}, store)
	if err := os.WriteFile(dir+"/new", anyBytes, 0o600); err != nil {
		t.Fatal(err)
	}
	conn, process := killable(t, dir)
	_, _, err := Save(t.Context(), conn, &previous, Mark{}, killing{store, process}, Limits{})
	conn.Close()
	process.Wait()
	if err == nil {
		t.Fatal("Save took no notice")
	}
	state, saved := saveDir(t, dir, &previous, Mark{}, store)
	if saved.New != 1 {
		t.Errorf("%+v", saved)
	}
	to := t.TempDir()
	restoreDir(t, to, state, store)
	holds(t, to, fingerprint(t, dir))
}

// killing kills the process when the first bytes of a blob are there.
type killing struct {
	Blobs
	process *exec.Cmd
}

func (k killing) Put(ctx context.Context, mediaType string, content io.Reader) (ocispec.Descriptor, error) {
	if _, err := io.ReadFull(content, make([]byte, 1000)); err != nil {
		return ocispec.Descriptor{}, err
	}
	k.process.Process.Kill()
	return k.Blobs.Put(ctx, mediaType, content)
}

// The mark of one mount says nothing of another.
func TestAMarkIsOfOneMount(t *testing.T) {
	t.Parallel()
	_, state, blobs := planted(t, 2, 2)
	to := t.TempDir()
	restored := restoreDir(t, to, state, blobs)
	other := t.TempDir()
	restoreDir(t, other, state, blobs)
	file := other + "/d0001/f1"
	info, err := os.Stat(file)
	if err == nil {
		err = errors.Join(os.WriteFile(file, make([]byte, info.Size()), 0), os.Chtimes(file, time.Time{}, info.ModTime()))
	}
	if err != nil {
		t.Fatal(err)
	}
	// As if the file had been changed before the mark.
	future := Mark{restored.Mark.Time + int64(time.Hour), restored.Mark.Mount}
	if _, saved := saveDir(t, other, &state, future, blobs); saved.New != 1 {
		t.Errorf("%+v", saved)
	}
	if _, saved := saveDir(t, to, &state, future, blobs); !saved.Unchanged {
		t.Errorf("%+v", saved)
	}
}
