package mounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// scan lists what is in a mount. Contents are known of those files only that
// have not been touched since the mark.
type scan struct {
	entries []entry
	seen    []identity // of the entries
	leftOut int
}

// identity tells whether a file is still the one that was seen.
type identity struct {
	inode   inode
	size    int64
	changed int64
}

type inode struct{ device, number uint64 }

func identify(stat *unix.Stat_t) identity {
	return identity{inode{uint64(stat.Dev), stat.Ino}, stat.Size, changedAt(stat)}
}

type scanner struct {
	ctx    context.Context
	since  int64 // 0 for never
	before map[string]*entry
	limits Limits

	found   []foundEntry
	bytes   int64
	extents int
	counted map[inode]bool // of those with several names
	scan
}

type foundEntry struct {
	entry
	identity
	links bool // it has more names
}

// scanMount reads the mount behind a descriptor.
func scanMount(ctx context.Context, root int, before tree, since Mark, limits Limits) (scan, error) {
	s := scanner{ctx: ctx, before: make(map[string]*entry, len(before.entries)), limits: limits, counted: map[inode]bool{}}
	for i := range before.entries {
		s.before[before.entries[i].path] = &before.entries[i]
	}
	var stat unix.Stat_t
	if err := unix.Fstat(root, &stat); err != nil {
		return scan{}, pathError("stat", "", err)
	}
	if since.Mount == stat.Ino {
		s.since = since.Time
	}
	fd, err := openAt(root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return scan{}, pathError("open", "", err)
	}
	if err := s.directory(os.NewFile(uintptr(fd), "."), ""); err != nil {
		return scan{}, err
	}
	slices.SortFunc(s.found, func(a, b foundEntry) int { return compareEntries(a.entry, b.entry) })
	first := map[inode]string{}
	for _, f := range s.found {
		if f.links {
			if name, ok := first[f.inode]; ok {
				f.entry = entry{path: f.path, kind: hardlink, target: name}
			} else {
				first[f.inode] = f.path
			}
		}
		s.entries = append(s.entries, f.entry)
		s.seen = append(s.seen, f.identity)
	}
	return s.scan, nil
}

// directory lists an open directory and what is below, and closes it.
func (s *scanner) directory(d *os.File, path string) error {
	defer d.Close()
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &stat); err != nil {
		return pathError("stat", path, err)
	}
	e, _ := describe(path, &stat)
	if !s.untouched(&e, &stat) {
		var err error
		if e.xattrs, err = readXattrs(int(d.Fd())); err != nil {
			return pathError("read attributes", path, err)
		}
	}
	if err := s.add(e, &stat); err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err != nil && !gone(err) {
		return err
	}
	for _, name := range names {
		if path == "" && name == reservedName {
			return ErrInterrupted
		}
		below := name
		if path != "" {
			below = path + "/" + name
		}
		if !validPath(below) {
			return fmt.Errorf("%w: a path of %d bytes, %.100q", ErrTooLarge, len(below), below)
		}
		if err := s.name(int(d.Fd()), name, below); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// name lists one name in a directory.
func (s *scanner) name(directory int, name, path string) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(directory, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("stat", path, err)
	}
	e, kept := describe(path, &stat)
	switch {
	case !kept:
		s.leftOut++
		return nil
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		fd, err := openAt(directory, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return pathError("open", path, err)
		}
		return s.directory(os.NewFile(uintptr(fd), path), path)
	case s.untouched(&e, &stat):
	case e.kind == symlink:
		target, err := sizedLink(directory, name)
		if err != nil {
			return pathError("read link", path, err)
		}
		e.target = target
	case e.kind == file:
		fd, err := openAt(directory, name, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return pathError("open", path, err)
		}
		f := os.NewFile(uintptr(fd), path)
		defer f.Close()
		if e.xattrs, err = readXattrs(fd); err != nil {
			return pathError("read attributes", path, err)
		}
		if stat.Blocks*512 < stat.Size {
			e.extents, e.sparse = readExtents(f, stat.Size, maxExtents/2-s.extents)
			s.extents += len(e.extents) + 1
		}
	}
	return s.add(e, &stat)
}

func sizedLink(directory int, name string) (string, error) {
	buffer := make([]byte, maxPath+1)
	n, err := unix.Readlinkat(directory, name, buffer)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

// untouched completes an entry with what is known of it if the file system
// vouches that nothing about it has changed since the mark.
func (s *scanner) untouched(e *entry, stat *unix.Stat_t) bool {
	old := s.before[e.path]
	if s.since == 0 || changedAt(stat) >= s.since || old == nil || old.kind != e.kind || old.mode != e.mode ||
		old.uid != e.uid || old.gid != e.gid || old.mtime != e.mtime || old.size != e.size {
		return false
	}
	*e = *old
	return true
}

func (s *scanner) add(e entry, stat *unix.Stat_t) error {
	f := foundEntry{e, identify(stat), e.kind != directory && stat.Nlink > 1}
	s.found = append(s.found, f)
	if len(s.found) > s.limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrTooLarge, s.limits.Entries)
	}
	if f.links && s.counted[f.inode] {
		return nil
	}
	if f.links {
		s.counted[f.inode] = true
	}
	if s.bytes += e.bytes(); s.bytes > s.limits.Bytes {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, s.limits.Bytes)
	}
	return nil
}

// errBusy is of a file that another build changes while it is read.
var errBusy = errors.New("changed while it was read")

// contents reads files that were scanned.
type contents struct {
	scan  *scan
	place *place
}

// open opens the file of an entry if it is still the one that was seen.
func (c *contents) open(i int) (*os.File, error) {
	e := &c.scan.entries[i]
	directory, name, err := c.place.of(e.path)
	if err != nil {
		return nil, busyIfGone(err)
	}
	fd, err := openAt(directory, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, busyIfGone(pathError("open", e.path, err))
	}
	f := os.NewFile(uintptr(fd), e.path)
	if err := c.verify(f, i); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func busyIfGone(err error) error {
	if gone(err) {
		return errBusy
	}
	return err
}

func (c *contents) verify(f *os.File, i int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return pathError("stat", f.Name(), err)
	}
	if identify(&stat) != c.scan.seen[i] {
		return errBusy
	}
	return nil
}

// copy writes the content of a file and tells its sum.
func (c *contents) copy(to io.Writer, i int, buffer []byte) (sum [sha256.Size]byte, err error) {
	f, err := c.open(i)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(to, hash), onlyReader{contentOf(f, &c.scan.entries[i])}, buffer)
	if err != nil {
		return sum, err
	}
	if n != c.scan.entries[i].bytes() {
		return sum, errBusy
	}
	return [sha256.Size]byte(hash.Sum(nil)), c.verify(f, i)
}
