package mounts

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func pathError(op, path string, err error) error {
	if path == "" {
		path = "."
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// gone reports whether an error is of something that another build has taken
// away or replaced meanwhile.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// describe makes an entry of what stat says; false if there is no entry of
// this kind.
func describe(path string, stat *unix.Stat_t) (entry, bool) {
	e := entry{path: path, mode: stat.Mode & 0o7777, uid: stat.Uid, gid: stat.Gid, mtime: instant{int64(stat.Mtim.Sec), int32(stat.Mtim.Nsec)}}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.kind = directory
	case unix.S_IFREG:
		e.kind = file
		e.size = stat.Size
	case unix.S_IFLNK:
		e.kind = symlink
	case unix.S_IFIFO:
		e.kind = fifo
	default:
		return e, false
	}
	return e, true
}

// changedAt is the time of the last change of anything about a file, in
// nanoseconds.
func changedAt(stat *unix.Stat_t) int64 { return unix.TimespecToNsec(stat.Ctim) }

// readXattrs reads those attributes of an open file that are kept.
func readXattrs(fd int) ([]xattr, error) {
	names, err := sized(func(buffer []byte) (int, error) { return unix.Flistxattr(fd, buffer) })
	if errors.Is(err, unix.ENOTSUP) || len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var kept []xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !keptXattr(name) {
			continue
		}
		value, err := sized(func(buffer []byte) (int, error) { return unix.Fgetxattr(fd, name, buffer) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, xattr{name, string(value)})
	}
	slices.SortFunc(kept, func(a, b xattr) int { return cmp.Compare(a.name, b.name) })
	return kept, nil
}

// sized calls what fills a buffer with one that is large enough.
func sized(call func([]byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size *= 4 {
		buffer := make([]byte, size)
		n, err := call(buffer)
		if errors.Is(err, unix.ERANGE) && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buffer[:n], nil
	}
}

// readExtents finds where a file has data, which is in so many places at most:
// what is behind the last counts as one, holes and all. Nothing is said of a
// file without holes, and on file systems that cannot tell.
func readExtents(f *os.File, size int64, most int) (extents []span, sparse bool) {
	if most <= 0 {
		return nil, false
	}
	for at := int64(0); at < size; {
		start, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole to the end
		}
		if err != nil {
			return nil, false
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return nil, false
		}
		if len(extents) == most-1 {
			end = size
		}
		start, end = min(start, size), min(end, size)
		if start < end {
			extents = append(extents, span{start, end - start})
		}
		at = end
	}
	if len(extents) == 1 && extents[0] == (span{0, size}) || size == 0 {
		return nil, false
	}
	return extents, true
}

// contentOf reads the content of a file: all of it, or its extents.
func contentOf(f *os.File, e *entry) io.Reader {
	var parts []io.Reader
	for _, extent := range e.parts() {
		parts = append(parts, io.NewSectionReader(f, extent.offset, extent.size))
	}
	return io.MultiReader(parts...)
}
