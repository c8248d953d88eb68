package mounts

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// kind is what an entry is. Sockets and devices have none.
type kind byte

const (
	directory kind = 'd'
	file      kind = 'f'
	symlink   kind = 'l'
	fifo      kind = 'p'
	hardlink  kind = 'h' // a further name of a file, symlink or fifo
)

// entry is all there is to know of one name in a mount but its content.
type entry struct {
	// path is relative to the mount, with slashes, and any bytes between
	// them; empty for the mount itself.
	path     string
	kind     kind
	mode     uint32 // permissions with setuid, setgid and sticky: 07777
	uid, gid uint32
	mtime    instant
	xattrs   []xattr // sorted by name

	target  string  // of a symlink: any text; of a hardlink: the other path
	size    int64   // of a file, with its holes
	sparse  bool    // the content covers the extents only
	extents []span  // of a sparse file, in order, with holes between them
	content content // of a file that is not all holes
}

// instant is a time with the range of the file system's.
type instant struct {
	sec  int64
	nsec int32
}

type xattr struct{ name, value string }

// span is a part of a file, in bytes.
type span struct{ offset, size int64 }

// content is what a file holds, and where it is kept: the index counts the
// contents of a pack from 0. Pack 0 is nowhere.
type content struct {
	sum         [sha256.Size]byte
	pack, index int
}

// bytes is the size of a file's content.
func (e *entry) bytes() int64 {
	switch {
	case e.kind != file:
		return 0
	case !e.sparse:
		return e.size
	}
	var sum int64
	for _, extent := range e.extents {
		sum += extent.size
	}
	return sum
}

// parts are where a file has its content.
func (e *entry) parts() []span {
	if e.sparse {
		return e.extents
	}
	return []span{{0, e.size}}
}

// alike reports whether two entries are the same in all but where their
// content is kept.
func (e *entry) alike(other *entry) bool {
	return e.path == other.path && e.kind == other.kind && e.mode == other.mode && e.uid == other.uid && e.gid == other.gid &&
		e.mtime == other.mtime && slices.Equal(e.xattrs, other.xattrs) && e.target == other.target && e.size == other.size &&
		e.sparse == other.sparse && slices.Equal(e.extents, other.extents) && e.content.sum == other.content.sum
}

// tree is what a mount holds, or what changed of that.
type tree struct {
	whole   bool
	removed []string // sorted; none if whole
	entries []entry  // sorted by path, the mount itself first if whole
}

// What no tree exceeds: Linux's NAME_MAX and PATH_MAX, and what ext4 holds in
// an inode and a file.
const (
	maxName     = 255
	maxPath     = 4095
	maxDepth    = 128 // a descriptor is open for each
	maxXattrs   = 64
	maxXattr    = 64 << 10
	maxFile     = 1 << 44
	maxTreeSize = 64 << 20 // encoded, before compression, with all changes
	maxExtents  = 1 << 20  // of all files
)

// reservedName is where a mount is filled before its entries move to their
// places. While it stands, what is beside it may be a part.
const reservedName = ".docker-build-remote-cache"

// keptXattr tells the extended attributes that belong to the content of a
// mount. All others, such as SELinux's labels and overlayfs's marks, belong to
// the machine it was on.
func keptXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability" ||
		name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// apply makes the tree that a change leads to.
func (t tree) apply(change tree) (tree, error) {
	if change.whole {
		return change, nil
	}
	next := tree{whole: true, entries: make([]entry, 0, len(t.entries)+len(change.entries))}
	removed, changed := change.removed, change.entries
	for i := range t.entries {
		old := t.entries[i]
		for len(changed) > 0 && changed[0].path < old.path {
			next.entries = append(next.entries, changed[0])
			changed = changed[1:]
		}
		gone := len(removed) > 0 && removed[0] == old.path
		if gone {
			removed = removed[1:]
		}
		switch {
		case len(changed) > 0 && changed[0].path == old.path:
			next.entries = append(next.entries, changed[0])
			changed = changed[1:]
			if gone {
				return tree{}, damagedf("%q is both changed and removed", old.path)
			}
		case !gone:
			next.entries = append(next.entries, old)
		}
	}
	next.entries = append(next.entries, changed...)
	if len(removed) > 0 {
		return tree{}, damagedf("%q is removed, but was not there", removed[0])
	}
	return next, nil
}

// since lists what must be said of t to someone who knows the tree before. Of
// an entry whose content moved to another pack everything is said again.
func (t tree) since(before tree) tree {
	var change tree
	old := before.entries
	for i := range t.entries {
		e := &t.entries[i]
		for len(old) > 0 && old[0].path < e.path {
			change.removed = append(change.removed, old[0].path)
			old = old[1:]
		}
		if len(old) > 0 && old[0].path == e.path {
			same := e.alike(&old[0]) && e.content == old[0].content
			old = old[1:]
			if same {
				continue
			}
		}
		change.entries = append(change.entries, *e)
	}
	for i := range old {
		change.removed = append(change.removed, old[i].path)
	}
	return change
}

// check verifies that a whole tree can be made: every name has its directory,
// every hard link another name, every content a place in one of the packs, and
// nothing exceeds the limits.
func (t tree) check(packs []packFacts, limits Limits) error {
	if !t.whole || len(t.entries) == 0 || t.entries[0].path != "" || t.entries[0].kind != directory {
		return damagedf("a tree without the mount itself")
	}
	if len(t.entries) > limits.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrTooLarge, limits.Entries)
	}
	byID := map[int]packFacts{}
	for _, pack := range packs {
		byID[pack.ID] = pack
	}
	type place struct{ pack, index int }
	known := map[place]*entry{}
	kinds := make(map[string]kind, len(t.entries))
	var total int64
	for i := range t.entries {
		e := &t.entries[i]
		if i > 0 {
			parent, _ := split(e.path)
			if kinds[parent] != directory {
				return damagedf("%q is not in a directory", e.path)
			}
		}
		kinds[e.path] = e.kind
		size := e.bytes()
		if total += size; total > limits.Bytes {
			return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limits.Bytes)
		}
		if size == 0 {
			continue
		}
		pack, ok := byID[e.content.pack]
		if !ok || e.content.index >= pack.Contents || size > pack.Bytes {
			return damagedf("the content of %q is in no pack", e.path)
		}
		at := place{e.content.pack, e.content.index}
		if other := known[at]; other != nil && (other.content.sum != e.content.sum || other.bytes() != size) {
			return damagedf("the contents of %q and %q are in one place", other.path, e.path)
		}
		known[at] = e
	}
	for i := range t.entries {
		e := &t.entries[i]
		if e.kind == hardlink {
			if to := kinds[e.target]; to != file && to != symlink && to != fifo {
				return damagedf("%q is a hard link to what is none of a file, a symbolic link or a FIFO", e.path)
			}
		}
	}
	return nil
}

// size counts the entries of a whole tree, without the mount itself, and the
// bytes of its files.
func (t tree) size() (entries int, bytes int64) {
	for i := range t.entries {
		bytes += t.entries[i].bytes()
	}
	return max(len(t.entries)-1, 0), bytes
}

// split cuts a path before its last name.
func split(path string) (parent, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// validPath reports whether a path is relative, plain, and of a length that
// Linux knows.
func validPath(path string) bool {
	if len(path) > maxPath || strings.Count(path, "/") >= maxDepth || strings.IndexByte(path, 0) >= 0 {
		return false
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." || len(name) > maxName {
			return false
		}
	}
	return path != reservedName && !strings.HasPrefix(path, reservedName+"/")
}

// compareEntries orders entries as trees do.
func compareEntries(a, b entry) int { return cmp.Compare(a.path, b.path) }
