package mounts

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// needRoot skips what only root can make: files of others, capabilities.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files of other owners can be made by root only")
	}
}

// fingerprint is all there is to know of what a mount holds, told by other
// means than those under test. The time of nothing is left out.
func fingerprint(t interface{ Fatal(...any) }, dir string) map[string]string {
	prints := map[string]string{}
	names := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat syscall.Stat_t
		if err := syscall.Lstat(path, &stat); err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		print := fmt.Sprintf("%o %d:%d %d.%09d", stat.Mode, stat.Uid, stat.Gid, stat.Mtim.Sec, stat.Mtim.Nsec)
		for _, x := range listXattrs(path) {
			value := make([]byte, 1<<16)
			n, err := unix.Lgetxattr(path, x, value)
			if err != nil {
				return err
			}
			print += fmt.Sprintf(" %s=%x", x, value[:n])
		}
		switch {
		case stat.Mode&syscall.S_IFMT == syscall.S_IFSOCK, stat.Mode&syscall.S_IFMT == syscall.S_IFCHR, stat.Mode&syscall.S_IFMT == syscall.S_IFBLK:
			return nil
		case d.Type() == 0:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			print += fmt.Sprintf(" size %d sum %x holes %t", stat.Size, sha256.Sum256(content), stat.Blocks*512 < stat.Size/2)
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			print += fmt.Sprintf(" to %q", to)
		}
		if !d.IsDir() && stat.Nlink > 1 {
			if first, ok := names[stat.Ino]; ok {
				print += fmt.Sprintf(" same as %q", first)
			} else {
				names[stat.Ino] = name
			}
		}
		prints[name] = print
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return prints
}

func listXattrs(path string) []string {
	list := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, list)
	if err != nil || n <= 0 {
		return nil
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	slices.Sort(names)
	return names
}

// gardener changes a directory at random.
type gardener struct {
	dir string
	t   *rapid.T
}

var (
	anyName = rapid.OneOf(
		rapid.SampledFrom([]string{"a", "b", "c", "d", "a.b", "a-", "b\n", "\xff\xfe", "é", ".wh.a", "..a", "-", "con", " "}),
		rapid.Map(rapid.IntRange(200, 255), func(n int) string { return strings.Repeat("n", n) }),
	)
	anyMode = rapid.Map(rapid.IntRange(0, 0o7777), func(m int) uint32 { return uint32(m) })
	anyID   = rapid.OneOf(rapid.SampledFrom([]int{0, 1, 1000, 65534}), rapid.IntRange(0, 1<<30))
	anyTime = rapid.Map(rapid.Int64Range(-1<<31, 1<<33), func(s int64) int64 { return s })
	anySize = rapid.OneOf(rapid.IntRange(0, 10), rapid.IntRange(0, 10), rapid.IntRange(0, 10_000), rapid.IntRange(0, 10_000), rapid.IntRange(smallContent-1, smallContent+1))
)

// paths lists what there is of a kind: 0 for all.
func (g *gardener) paths(of fs.FileMode, all bool) []string {
	var paths []string
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (all || d.Type() == of) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return paths
}

func (g *gardener) must(err error) {
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.EEXIST) {
		g.t.Fatal(err)
	}
}

func (g *gardener) one(of fs.FileMode) string {
	paths := g.paths(of, false)
	if len(paths) == 0 {
		return ""
	}
	return rapid.SampledFrom(paths).Draw(g.t, "path")
}

// tend makes one change.
func (g *gardener) tend() {
	in := g.one(fs.ModeDir)
	path := in + "/" + anyName.Draw(g.t, "name")
	if len(strings.TrimPrefix(path, g.dir)) > 2000 {
		return
	}
	_, err := os.Lstat(path)
	free := errors.Is(err, fs.ErrNotExist)
	what := rapid.SampledFrom([]string{"file", "file", "file", "copy", "dir", "dir", "symlink", "fifo", "socket", "device", "hardlink",
		"sparse", "remove", "rename", "rewrite", "same size and time", "touch", "mode", "owner", "xattr", "root"}).Draw(g.t, "what")
	switch {
	case !free && !slices.Contains([]string{"remove", "rewrite", "same size and time", "touch", "mode", "owner", "xattr", "root"}, what):
		return
	}
	switch what {
	case "file":
		g.must(os.WriteFile(path, g.content(anySize.Draw(g.t, "size")), 0o644))
		g.dress(path)
	case "copy":
		if from := g.one(0); from != "" {
			content, err := os.ReadFile(from)
			g.must(err)
			g.must(os.WriteFile(path, content, 0o600))
		}
	case "dir":
		g.must(os.Mkdir(path, 0o755))
		g.dress(path)
	case "symlink":
		g.must(os.Symlink(rapid.SampledFrom([]string{"a", "..", "/", "/etc/passwd", "\xff", strings.Repeat("x/", 500), g.dir}).Draw(g.t, "to"), path))
		g.must(os.Lchown(path, anyID.Draw(g.t, "uid"), anyID.Draw(g.t, "gid")))
		g.touch(path)
	case "fifo":
		g.must(unix.Mkfifo(path, 0o600))
		g.dress(path)
	case "socket":
		g.must(unix.Mknod(path, unix.S_IFSOCK|0o600, 0))
	case "device":
		g.must(unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	case "hardlink":
		if from := g.one(rapid.SampledFrom([]fs.FileMode{0, 0, fs.ModeSymlink, fs.ModeNamedPipe}).Draw(g.t, "of")); from != "" {
			g.must(os.Link(from, path))
		}
	case "sparse":
		f, err := os.Create(path)
		g.must(err)
		size := int64(rapid.IntRange(1<<16, 1<<24).Draw(g.t, "size"))
		g.must(f.Truncate(size))
		for range rapid.IntRange(0, 3).Draw(g.t, "extents") {
			_, err := f.WriteAt(g.content(rapid.IntRange(1, 5000).Draw(g.t, "extent")), rapid.Int64Range(0, size-5000).Draw(g.t, "at"))
			g.must(err)
		}
		g.must(f.Close())
		g.dress(path)
	case "root":
		g.dress(g.dir)
	default:
		paths := g.paths(0, true)
		if len(paths) == 1 {
			return
		}
		g.change(what, rapid.SampledFrom(paths[1:]).Draw(g.t, "old"), path)
	}
}

// change changes what is there.
func (g *gardener) change(what, old, path string) {
	var stat syscall.Stat_t
	g.must(syscall.Lstat(old, &stat))
	kind := stat.Mode & syscall.S_IFMT
	switch what {
	case "remove":
		g.must(os.RemoveAll(old))
	case "rename":
		if !strings.HasPrefix(path, old+"/") {
			g.must(os.Rename(old, path))
		}
	case "rewrite":
		if kind == syscall.S_IFREG {
			g.must(os.WriteFile(old, g.content(anySize.Draw(g.t, "size")), 0))
		}
	case "same size and time":
		if kind == syscall.S_IFREG && stat.Size < 100_000 {
			f, err := os.OpenFile(old, os.O_WRONLY, 0)
			g.must(err)
			_, err = f.WriteAt(g.content(int(stat.Size)), 0)
			g.must(err)
			g.must(f.Close())
			g.must(os.Chtimes(old, time.Time{}, time.Unix(int64(stat.Mtim.Sec), int64(stat.Mtim.Nsec))))
		}
	case "touch":
		g.touch(old)
	case "mode":
		if kind == syscall.S_IFREG || kind == syscall.S_IFDIR {
			g.must(syscall.Chmod(old, anyMode.Draw(g.t, "mode")))
		}
	case "owner":
		g.must(os.Lchown(old, anyID.Draw(g.t, "uid"), anyID.Draw(g.t, "gid")))
	case "xattr":
		if kind == syscall.S_IFREG || kind == syscall.S_IFDIR {
			g.xattr(old)
		}
	}
}

func (g *gardener) content(size int) []byte {
	seed := rapid.IntRange(0, 20).Draw(g.t, "seed")
	return anyBytes[seed : seed+size]
}

// anyBytes is what contents are cut from.
var anyBytes = func() []byte {
	noise := make([]byte, 2*smallContent)
	rand.NewChaCha8([32]byte{}).Read(noise)
	return noise
}()

func (g *gardener) touch(path string) {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: anyTime.Draw(g.t, "sec"), Nsec: rapid.Int64Range(0, 999_999_999).Draw(g.t, "nsec")}}
	g.must(unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW))
}

// dress sets what is not content, in about half of the cases.
func (g *gardener) dress(path string) {
	if rapid.Bool().Draw(g.t, "dressed") {
		g.must(os.Lchown(path, anyID.Draw(g.t, "uid"), anyID.Draw(g.t, "gid")))
		g.must(syscall.Chmod(path, anyMode.Draw(g.t, "mode")))
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeNamedPipe == 0 {
			g.xattr(path)
		}
		g.touch(path)
	}
}

func (g *gardener) xattr(path string) {
	name := rapid.SampledFrom([]string{"user.a", "user.b\xff", "security.capability"}).Draw(g.t, "attribute")
	value := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(g.t, "value")
	if name == "security.capability" {
		// VFS_CAP_REVISION_2 with cap_net_raw (linux/capability.h).
		value = []byte{0, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	g.must(unix.Lsetxattr(path, name, value, 0))
}
