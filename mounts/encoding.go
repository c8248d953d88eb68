package mounts

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// The encoding: all numbers are varints, a text is its length and its bytes,
// and a path that follows another is the length of the beginning they share,
// and the rest.
const treeMagic = "mount tree 1\n"

func (t tree) encode() []byte {
	w := bytes.NewBufferString(treeMagic)
	number := func(n uint64) { w.Write(binary.AppendUvarint(w.AvailableBuffer(), n)) }
	text := func(s string) { number(uint64(len(s))); w.WriteString(s) }
	previous := ""
	path := func(p string) {
		shared := 0
		for shared < min(len(p), len(previous)) && p[shared] == previous[shared] {
			shared++
		}
		number(uint64(shared))
		text(p[shared:])
		previous = p
	}
	whole := uint64(0)
	if t.whole {
		whole = 1
	}
	number(whole)
	number(uint64(len(t.removed)))
	for _, p := range t.removed {
		path(p)
	}
	number(uint64(len(t.entries)))
	previous = ""
	for i := range t.entries {
		e := &t.entries[i]
		path(e.path)
		w.WriteByte(byte(e.kind))
		if e.kind == hardlink {
			text(e.target)
			continue
		}
		number(uint64(e.mode))
		number(uint64(e.uid))
		number(uint64(e.gid))
		w.Write(binary.AppendVarint(w.AvailableBuffer(), e.mtime.sec))
		number(uint64(e.mtime.nsec))
		number(uint64(len(e.xattrs)))
		for _, x := range e.xattrs {
			text(x.name)
			text(x.value)
		}
		switch e.kind {
		case symlink:
			text(e.target)
		case file:
			number(uint64(e.size))
			if !e.sparse {
				number(0)
			} else {
				number(uint64(len(e.extents)) + 1)
				for _, extent := range e.extents {
					number(uint64(extent.offset))
					number(uint64(extent.size))
				}
			}
			if e.bytes() > 0 {
				number(uint64(e.content.pack))
				number(uint64(e.content.index))
				w.Write(e.content.sum[:])
			}
		}
	}
	return w.Bytes()
}

// decodeTree reads what encode wrote. Every path it returns stays in the
// mount if no symbolic link is followed.
func decodeTree(raw []byte, limits Limits) (tree, error) {
	rest, ok := bytes.CutPrefix(raw, []byte(treeMagic))
	if !ok {
		return tree{}, damagedf("a tree of an unknown form")
	}
	d := treeDecoder{rest: rest}
	var t tree
	t.whole = d.number(1) == 1
	removed := d.number(uint64(limits.Entries))
	for range removed {
		t.removed = append(t.removed, d.path())
		if d.err != nil {
			return tree{}, d.err
		}
	}
	if t.whole && removed > 0 {
		return tree{}, damagedf("a whole tree with removals")
	}
	count := d.number(math.MaxInt)
	if d.err == nil && count > uint64(limits.Entries) {
		return tree{}, fmt.Errorf("%w: %d entries", ErrTooLarge, count)
	}
	d.previous, d.first = "", false
	for range count {
		t.entries = append(t.entries, d.entry())
		if d.err != nil {
			return tree{}, d.err
		}
	}
	if d.err == nil && len(d.rest) > 0 {
		d.fail("something follows")
	}
	return t, d.err
}

type treeDecoder struct {
	rest     []byte
	previous string
	first    bool // previous is set
	extents  uint64
	err      error
}

func (d *treeDecoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = damagedf("a tree in which "+format, args...)
	}
	d.rest = nil
}

func (d *treeDecoder) number(largest uint64) uint64 {
	n, length := binary.Uvarint(d.rest)
	if length <= 0 || n > largest || length > 1 && n>>(7*(length-1)) == 0 {
		d.fail("a number is missing, too large or not in its shortest form")
		return 0
	}
	d.rest = d.rest[length:]
	return n
}

func (d *treeDecoder) text(longest int) string {
	length := d.number(uint64(longest))
	return string(d.bytes(int(length)))
}

func (d *treeDecoder) bytes(n int) []byte {
	if n > len(d.rest) {
		d.fail("a text is cut off")
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

// path reads one that must be behind the one before.
func (d *treeDecoder) path() string {
	shared := d.number(uint64(len(d.previous)))
	path := d.previous[:shared] + d.text(maxPath)
	if d.err == nil && d.first && path <= d.previous {
		d.fail("the paths are not in order")
	}
	if d.err == nil && path != "" && !validPath(path) {
		d.fail("%q is not a path", path)
	}
	d.previous, d.first = path, true
	return path
}

func (d *treeDecoder) entry() entry {
	e := entry{path: d.path()}
	if k := d.bytes(1); k != nil {
		e.kind = kind(k[0])
	}
	switch e.kind {
	case directory, file, symlink, fifo:
	case hardlink:
		if e.target = d.text(maxPath); e.target == "" || !validPath(e.target) {
			d.fail("%q is a hard link to %q", e.path, e.target)
		}
		return e
	default:
		d.fail("%q is of kind %q", e.path, byte(e.kind))
		return e
	}
	e.mode = uint32(d.number(0o7777))
	// The highest number would mean to leave an owner as it is.
	e.uid = uint32(d.number(math.MaxUint32 - 1))
	e.gid = uint32(d.number(math.MaxUint32 - 1))
	sec, length := binary.Varint(d.rest)
	if length <= 0 {
		d.fail("a time is missing")
		return e
	}
	d.rest = d.rest[length:]
	e.mtime = instant{sec, int32(d.number(999_999_999))}
	for range d.number(maxXattrs) {
		x := xattr{d.text(maxName), d.text(maxXattr)}
		if d.err == nil && (!keptXattr(x.name) || strings.IndexByte(x.name, 0) >= 0 ||
			len(e.xattrs) > 0 && x.name <= e.xattrs[len(e.xattrs)-1].name) {
			d.fail("%q has the attribute %q", e.path, x.name)
		}
		e.xattrs = append(e.xattrs, x)
	}
	switch e.kind {
	case symlink:
		if e.target = d.text(maxPath); e.target == "" || strings.IndexByte(e.target, 0) >= 0 {
			d.fail("%q is a symbolic link to %q", e.path, e.target)
		}
	case file:
		d.file(&e)
	}
	return e
}

func (d *treeDecoder) file(e *entry) {
	e.size = int64(d.number(maxFile))
	if extents := d.number(maxExtents - d.extents); extents > 0 {
		e.sparse = true
		d.extents += extents
		end := int64(-1) // so that there is a hole between any two
		for range extents - 1 {
			extent := span{int64(d.number(maxFile)), int64(d.number(maxFile))}
			if d.err == nil && (extent.offset <= end || extent.size == 0 || extent.size > e.size-extent.offset) {
				d.fail("the extents of %q are not in order", e.path)
			}
			if d.err != nil {
				return
			}
			end = extent.offset + extent.size
			e.extents = append(e.extents, extent)
		}
	}
	if e.bytes() > 0 {
		e.content.pack = int(d.number(maxPackID))
		e.content.index = int(d.number(maxEntries))
		copy(e.content.sum[:], d.bytes(sha256.Size))
	}
}

// compress makes the blob of a tree.
func (t tree) compress() []byte {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // only for options that contradict each other
	}
	defer encoder.Close()
	return encoder.EncodeAll(t.encode(), nil)
}

// decompressTree reads the blob of a tree.
func decompressTree(blob io.Reader, longest int64, limits Limits) (t tree, size int64, err error) {
	decoder, err := newDecoder(blob)
	if err != nil {
		return tree{}, 0, err
	}
	defer decoder.Close()
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(io.LimitReader(decoder, longest+1)); err != nil {
		return tree{}, 0, asDamage(err)
	}
	if int64(raw.Len()) > longest {
		return tree{}, 0, fmt.Errorf("%w: trees of more than %d bytes", ErrTooLarge, maxTreeSize)
	}
	t, err = decodeTree(raw.Bytes(), limits)
	return t, int64(raw.Len()), err
}
