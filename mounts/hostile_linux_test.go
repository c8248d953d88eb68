package mounts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// artifact is a State made by hand.
type artifact struct {
	tree  tree
	raw   []byte   // the tree, if it is encoded
	blob  []byte   // instead of the tree
	packs [][]byte // decompressed
	facts []packFacts
}

var self = entry{kind: directory, mode: 0o755}

// holding is a tree of one pack, whose contents are those of its files in
// order.
func holding(entries ...entry) artifact {
	a := artifact{tree: tree{whole: true, entries: append([]entry{self}, entries...)}}
	var pack []byte
	facts := packFacts{ID: 1}
	for i := range a.tree.entries {
		if e := &a.tree.entries[i]; e.bytes() > 0 && e.content.pack == 0 {
			text := strings.Repeat("x", int(e.bytes()))
			e.content = content{sha256.Sum256([]byte(text)), 1, facts.Contents}
			pack = append(append(pack, byte(len(text))), text...)
			facts.Contents++
			facts.Bytes += int64(len(text))
		}
	}
	if facts.Contents > 0 {
		a.packs, a.facts = [][]byte{pack}, []packFacts{facts}
	}
	return a
}

func compressed(t testing.TB, content io.Reader) []byte {
	t.Helper()
	var blob bytes.Buffer
	encoder, err := zstd.NewWriter(&blob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(encoder, content); err != nil {
		t.Fatal(err)
	}
	if err := encoder.Close(); err != nil {
		t.Fatal(err)
	}
	return blob.Bytes()
}

func (a artifact) encoded() []byte {
	if a.raw == nil {
		return a.tree.encode()
	}
	return a.raw
}

func (a artifact) store(t testing.TB, blobs Blobs) State {
	t.Helper()
	put := func(mediaType string, blob []byte) ocispec.Descriptor {
		d, err := blobs.Put(t.Context(), mediaType, bytes.NewReader(blob))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if a.blob == nil {
		a.blob = compressed(t, bytes.NewReader(a.encoded()))
	}
	state := State{Trees: []ocispec.Descriptor{put(MediaTypeTree, a.blob)}}
	for i, pack := range a.packs {
		facts := a.facts[i]
		state.Packs = append(state.Packs, Pack{put(MediaTypePack, compressed(t, bytes.NewReader(pack))), facts.ID, facts.Bytes, facts.Contents})
	}
	return state
}

// restoreAgainst asks Serve to make a tree, whatever the client thinks of it.
func restoreAgainst(t testing.TB, dir string, a artifact) error {
	t.Helper()
	return serving(t, dir, func(conn net.Conn) {
		w := newWire(conn)
		var answer filling
		if w.send(request{Packs: a.facts}) != nil || w.receive(&answer) != nil {
			t.Error("Serve does not answer")
			return
		}
		go func() {
			stream := outgoing{w}
			stream.Write(a.encoded())
			stream.Close()
			for _, pack := range a.packs {
				stream.Write(compressed(t, bytes.NewReader(pack)))
				stream.Close()
			}
		}()
		var done filled
		if w.receive(&done) == nil {
			w.send(struct{}{})
			w.receive(&done)
		}
	})
}

func TestHostileArtifactsWriteNothing(t *testing.T) {
	t.Parallel()
	f := func(path string) entry { return entry{path: path, kind: file, mode: 0o644, size: 3} }
	d := func(path string) entry { return entry{path: path, kind: directory, mode: 0o755} }
	link := func(path, to string) entry { return entry{path: path, kind: symlink, target: to} }
	hard := func(path, to string) entry { return entry{path: path, kind: hardlink, target: to} }
	with := func(e entry, change func(*entry)) entry { change(&e); return e }
	million := slices.Concat([]byte(treeMagic+"\x01\x00"), binary.AppendUvarint(nil, 1_000_000), bytes.Repeat([]byte("\x00\x01ad\x00\x00\x00\x00\x00"), 1_000_000))
	packed := func(a artifact, change func(*artifact)) artifact { change(&a); return a }
	for _, tc := range []struct {
		name string
		a    artifact
		want error
	}{
		{"absolute name", holding(f("/etc/evil")), ErrDamaged},
		{"name above", holding(f("../evil")), ErrDamaged},
		{"a directory above", holding(d(".."), f("../evil")), ErrDamaged},
		{"name above by a detour", holding(d("a"), f("a/../../evil")), ErrDamaged},
		{"name of itself", holding(f("a/.")), ErrDamaged},
		{"empty name", holding(d("a"), f("a//b")), ErrDamaged},
		{"name with NUL", holding(f("a\x00b")), ErrDamaged},
		{"name too long", holding(f(strings.Repeat("n", 256))), ErrDamaged},
		{"path too deep", holding(f(strings.Repeat("n/", 200) + "n")), ErrDamaged},
		{"the reserved name", holding(f(reservedName)), ErrDamaged},
		{"below the reserved name", holding(d(reservedName), f(reservedName+"/a")), ErrDamaged},
		{"names out of order", holding(f("b"), f("a")), ErrDamaged},
		{"a name twice", holding(link("a", "/"), d("a"), f("a/b")), ErrDamaged},
		{"symbolic link, then a write through it", holding(link("a", ".."), f("a/evil")), ErrDamaged},
		{"symbolic link, then a directory in it", holding(link("a", "/"), d("a/evil")), ErrDamaged},
		{"file in a file", holding(f("a"), f("a/b")), ErrDamaged},
		{"file without its directory", holding(f("a/b")), ErrDamaged},
		{"hard link out", holding(hard("a", "../secret")), ErrDamaged},
		{"hard link to an absolute name", holding(hard("a", "/etc/passwd")), ErrDamaged},
		{"hard link through a symbolic link", holding(link("a", ".."), hard("b", "a/secret")), ErrDamaged},
		{"hard link to a directory", holding(d("a"), hard("b", "a")), ErrDamaged},
		{"hard link to the mount", holding(hard("a", "")), ErrDamaged},
		{"hard link to itself", holding(hard("a", "a")), ErrDamaged},
		{"hard link to nothing", holding(hard("a", "b")), ErrDamaged},
		{"character device", holding(with(f("a"), func(e *entry) { e.kind = 'c' })), ErrDamaged},
		{"block device", holding(with(f("a"), func(e *entry) { e.kind = 'b' })), ErrDamaged},
		{"socket", holding(with(f("a"), func(e *entry) { e.kind = 's' })), ErrDamaged},
		{"mode with a type", holding(with(f("a"), func(e *entry) { e.mode = 0o20644 })), ErrDamaged},
		{"nobody's owner", holding(with(f("a"), func(e *entry) { e.uid = 1<<32 - 1 })), ErrDamaged},
		{"time out of range", holding(with(f("a"), func(e *entry) { e.mtime.nsec = 1e9 })), ErrDamaged},
		{"attribute of overlayfs", holding(with(d("a"), func(e *entry) { e.xattrs = []xattr{{"trusted.overlay.opaque", "y"}} })), ErrDamaged},
		{"attribute of SELinux", holding(with(d("a"), func(e *entry) { e.xattrs = []xattr{{"security.selinux", "y"}} })), ErrDamaged},
		{"an attribute twice", holding(with(d("a"), func(e *entry) { e.xattrs = []xattr{{"user.a", "y"}, {"user.a", "z"}} })), ErrDamaged},
		{"extents beyond the end", holding(with(f("a"), func(e *entry) { e.sparse = true; e.extents = []span{{1, 3}} })), ErrDamaged},
		{"extents that overlap", holding(with(f("a"), func(e *entry) { e.sparse = true; e.extents = []span{{0, 2}, {1, 2}} })), ErrDamaged},
		{"a file larger than files are", holding(with(f("a"), func(e *entry) { e.sparse = true; e.size = 1 << 62 })), ErrDamaged},
		{"no mount", artifact{tree: tree{whole: true, entries: []entry{d("a")}}}, ErrDamaged},
		{"a mount that is a file", artifact{tree: tree{whole: true, entries: []entry{{kind: file}}}}, ErrDamaged},
		{"a change of nothing", artifact{tree: tree{entries: []entry{d("a")}}}, ErrDamaged},
		{"a million entries", artifact{raw: million}, ErrTooLarge},
		{"content of no pack", packed(holding(f("a")), func(a *artifact) { a.packs, a.facts = nil, nil }), ErrDamaged},
		{"content behind the end of its pack", packed(holding(f("a")), func(a *artifact) { a.tree.entries[1].content.index = 1 }), ErrDamaged},
		{"content larger than its pack", packed(holding(f("a")), func(a *artifact) { a.tree.entries[1].size = 4 }), ErrDamaged},
		{"contents of two sums in one place", packed(holding(f("a"), f("b")), func(a *artifact) {
			a.tree.entries[2].content.index = 0
			a.tree.entries[2].content.sum[0]++
		}), ErrDamaged},
		{"content of another size", packed(holding(f("a"), f("b")), func(a *artifact) { a.tree.entries[1].size = 2 }), ErrDamaged},
		{"content of another sum", packed(holding(f("a"), f("b")), func(a *artifact) { a.tree.entries[2].content.sum[0]++ }), ErrDamaged},
		{"pack cut off", packed(holding(f("a"), f("b")), func(a *artifact) { a.packs[0] = a.packs[0][:6] }), ErrDamaged},
		{"pack too long", packed(holding(f("a"), f("b")), func(a *artifact) { a.packs[0] = append(a.packs[0], 1, 'x') }), ErrDamaged},
		{"pack longer than it says", packed(holding(f("a"), f("b")), func(a *artifact) { a.facts[0].Bytes = 5 }), ErrDamaged},
		{"pack that is a bomb", packed(holding(f("a")), func(a *artifact) {
			a.packs[0] = append([]byte{0xff, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 4<<20)...)
		}), ErrDamaged},
		{"file that is a bomb", packed(holding(f("a")), func(a *artifact) {
			a.tree.entries[1].size = 1 << 40
			a.facts[0].Bytes = 1 << 40
		}), ErrTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "mount")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(parent, "secret"), []byte("s"), 0o600)); err != nil {
				t.Fatal(err)
			}
			before := fingerprint(t, parent)
			delete(before, "mount") // its time is that of the attempt

			blobs := newStore()
			state := tc.a.store(t, blobs)
			var err error
			serving(t, dir, func(conn net.Conn) { _, err = Restore(t.Context(), conn, state, blobs, Limits{}) })
			if !errors.Is(err, tc.want) {
				t.Errorf("Restore: %v, want %v", err, tc.want)
			}
			if err := restoreAgainst(t, dir, tc.a); !errors.Is(err, tc.want) {
				t.Errorf("Serve: %v, want %v", err, tc.want)
			}
			after := fingerprint(t, parent)
			delete(after, "mount")
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("something was written (-want +got):\n%s", diff)
			}
		})
	}
}

// No link leads a place away, even if another build puts one there meanwhile.
func TestAPlaceFollowsNoLinks(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Symlink(outside, dir+"/link"), os.Mkdir(dir+"/a", 0o755), os.Symlink("../a", dir+"/a/inside"), os.Mkdir(outside+"/b", 0o755)); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	p := newPlace(int(root.Fd()))
	defer p.close()
	for _, path := range []string{"link", "link/b", "a/inside", "a/inside/inside"} {
		if _, err := p.at(path); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := writeFile(p, &entry{path: "link", kind: file, size: 1}, []byte("x")); !errors.Is(err, unix.EEXIST) {
		t.Error(err)
	}
	if _, err := p.at("a"); err != nil {
		t.Error(err)
	}
}

// What is odd, and harms nobody, is made as it is described.
func TestOddArtifactsStayInTheMount(t *testing.T) {
	t.Parallel()
	a := holding(
		entry{path: "abs", kind: symlink, target: "/etc/passwd"},
		entry{path: "alias", kind: hardlink, target: "up"},
		entry{path: "dir", kind: directory, mode: 0o7000},
		entry{path: "dir/setuid", kind: file, mode: 0o4711, size: 3},
		entry{path: "huge", kind: file, size: 1 << 40, sparse: true},
		entry{path: "up", kind: symlink, target: "../secret"},
	)
	if os.Getuid() != 0 {
		t.Skip("a directory without permissions is of use to root only")
	}
	parent := t.TempDir()
	dir := filepath.Join(parent, "mount")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(parent, "secret"), []byte("s"), 0o600)); err != nil {
		t.Fatal(err)
	}
	blobs := newStore()
	restoreDir(t, dir, a.store(t, blobs), blobs)
	var names []string
	for name := range fingerprintNames(t, dir) {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"abs", "alias", "dir", "huge", "up"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if secret, err := os.ReadFile(filepath.Join(parent, "secret")); string(secret) != "s" {
		t.Errorf("%q, %v", secret, err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "alias")); to != "../secret" {
		t.Errorf("%q, %v", to, err)
	}
}

func fingerprintNames(t testing.TB, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}

// A tree whose blob is not what it should be.
func TestDamagedTrees(t *testing.T) {
	t.Parallel()
	good := holding(entry{path: "a", kind: file, size: 3})
	megabyte := compressed(t, io.LimitReader(zeros{}, 1<<20))
	huge := slices.Concat(compressed(t, strings.NewReader(treeMagic)), bytes.Repeat(megabyte, maxTreeSize>>20))
	for _, tc := range []struct {
		name string
		blob []byte
		want error
	}{
		{"no zstd", []byte("hello"), ErrDamaged},
		{"cut off", good.tree.compress()[:20], ErrDamaged},
		{"another form", compressed(t, strings.NewReader("mount tree 2\n")), ErrDamaged},
		{"nothing", compressed(t, strings.NewReader(treeMagic)), ErrDamaged},
		{"more behind it", compressed(t, bytes.NewReader(append(good.tree.encode(), 0))), ErrDamaged},
		{"fewer entries than it says", compressed(t, strings.NewReader(treeMagic+"\x01\x00\x09")), ErrDamaged},
		{"more entries than any", compressed(t, strings.NewReader(treeMagic+"\x01\x00\xff\xff\xff\xff\xff\xff\xff\x7f")), ErrTooLarge},
		{"a bomb", huge, ErrTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			blobs, dir := newStore(), t.TempDir()
			good := good
			good.blob = tc.blob
			state := good.store(t, blobs)
			var err error
			serving(t, dir, func(conn net.Conn) { _, err = Restore(t.Context(), conn, state, blobs, Limits{}) })
			if !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
			if names := fingerprintNames(t, dir); len(names) > 0 {
				t.Errorf("the mount holds %v", names)
			}
			// And it is no obstacle to saving anew.
			next, saved := saveDir(t, dir, &state, Mark{Time: 1, Mount: 1}, blobs)
			if !errors.Is(saved.Lost, tc.want) || !saved.Whole || len(next.Trees) != 1 {
				t.Errorf("%+v", saved)
			}
		})
	}
}

// Blobs that are gone, or not what their digests say, leave the mount empty.
func TestDamagedBlobs(t *testing.T) {
	t.Parallel()
	from, blobs := t.TempDir(), newStore()
	for name, size := range map[string]int{"large": 3 * smallContent / 2, "small": 100} {
		if err := os.WriteFile(filepath.Join(from, name), anyBytes[:size], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	state, _ := saveDir(t, from, nil, Mark{}, blobs)
	for _, blob := range state.blobs() {
		for name, damage := range map[string]func([]byte) []byte{
			"gone":     func([]byte) []byte { return nil },
			"cut off":  func(b []byte) []byte { return b[:len(b)/2] },
			"changed":  func(b []byte) []byte { b = slices.Clone(b); b[len(b)/2]++; return b },
			"longer":   func(b []byte) []byte { return append(slices.Clone(b), 0) },
			"followed": func(b []byte) []byte { return append(slices.Clone(b), compressed(t, strings.NewReader("x"))...) },
		} {
			t.Run(blob.MediaType+" "+name, func(t *testing.T) {
				t.Parallel()
				damaged := newStore()
				for d, content := range blobs.blobs {
					if d == blob.Digest {
						content = damage(content)
					}
					if content != nil {
						damaged.blobs[d] = content
					}
				}
				for checks, blobs := range map[string]Blobs{"the registry's client": damaged, "nobody": careless{damaged}} {
					dir := t.TempDir()
					var err error
					serving(t, dir, func(conn net.Conn) { _, err = Restore(t.Context(), conn, state, blobs, Limits{}) })
					if err == nil {
						t.Errorf("digests checked by %s: it was restored", checks)
					}
					if names := fingerprintNames(t, dir); len(names) > 0 {
						t.Errorf("digests checked by %s: the mount holds %v", checks, names)
					}
				}
			})
		}
	}
}

// careless verifies no digests.
type careless struct{ *store }

func (c careless) Get(ctx context.Context, blob ocispec.Descriptor) (io.ReadCloser, error) {
	content, ok := c.blobs[blob.Digest]
	if !ok {
		return nil, errors.New("gone")
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

var fuzzLimits = Limits{Bytes: 1 << 20, Entries: 1000}

func FuzzTree(f *testing.F) {
	f.Add([]byte(treeMagic))
	f.Add(holding(entry{path: "a", kind: file, size: 3}, entry{path: "b", kind: symlink, target: "/"}, entry{path: "c", kind: hardlink, target: "a"},
		entry{path: "d", kind: fifo, xattrs: []xattr{{"user.a", "b"}}}, entry{path: "e", kind: file, sparse: true, size: 10, extents: []span{{3, 4}}}).tree.encode())
	f.Add(tree{removed: []string{"a", "ab"}, entries: []entry{{path: "b", kind: directory}}}.encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		decoded, err := decodeTree(raw, fuzzLimits)
		if err != nil {
			return
		}
		again, err := decodeTree(decoded.encode(), fuzzLimits)
		if err != nil || !cmp.Equal(decoded, again, cmp.AllowUnexported(tree{}, entry{}, instant{}, xattr{}, span{}, content{})) {
			t.Errorf("%+v comes back as %+v, %v", decoded, again, err)
		}
		for _, e := range decoded.entries {
			if e.path != "" && !filepath.IsLocal(e.path) {
				t.Errorf("%q leads out", e.path)
			}
		}
	})
}

// Whatever tree and pack say, the mount is filled or empty, and nothing beside
// it changes.
func FuzzRestore(f *testing.F) {
	a := holding(entry{path: "a", kind: file, size: 3}, entry{path: "b", kind: symlink, target: ".."}, entry{path: "d", kind: directory, mode: 0o700},
		entry{path: "d/e", kind: hardlink, target: "a"})
	f.Add(a.tree.encode(), a.packs[0], 1, 3)
	f.Fuzz(func(t *testing.T, tree, pack []byte, contents, size int) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "mount")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		blobs := newStore()
		put := func(content []byte) ocispec.Descriptor {
			blob := compressed(t, bytes.NewReader(content))
			blobs.blobs[digest.FromBytes(blob)] = blob
			return ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		}
		state := State{Trees: []ocispec.Descriptor{put(tree)}, Packs: []Pack{{Blob: put(pack), ID: 1, Contents: contents, Bytes: int64(size)}}}
		var err error
		serving(t, dir, func(conn net.Conn) { _, err = Restore(t.Context(), conn, state, blobs, fuzzLimits) })
		if names := fingerprintNames(t, dir); err != nil && len(names) > 0 {
			t.Errorf("%v, and the mount holds %v", err, names)
		}
		if names := fingerprintNames(t, parent); len(names) != 1 {
			t.Errorf("beside the mount are %v", names)
		}
	})
}

func FuzzState(f *testing.F) {
	digests := []ocispec.Descriptor{{MediaType: MediaTypeTree, Digest: digest.FromString("a"), Size: 1}, {MediaType: MediaTypePack, Digest: digest.FromString("b"), Size: 2}}
	raw, err := State{Trees: digests[:1], Packs: []Pack{{digests[1], 1, 2, 3}}, Entries: 4, Bytes: 5}.Manifest(map[string]string{"x": "y"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		state, annotations, err := ParseState(raw)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		again, err := state.Manifest(annotations)
		if err != nil {
			t.Fatal(err)
		}
		if back, _, err := ParseState(again); err != nil || !cmp.Equal(state, back) {
			t.Errorf("%+v comes back as %+v, %v", state, back, err)
		}
	})
}
