package mounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blobs is a registry's repository, as far as a State needs one.
type Blobs interface {
	// Get reads a blob. Reading to the end fails if it has not the digest and
	// the size of its descriptor.
	Get(ctx context.Context, blob ocispec.Descriptor) (io.ReadCloser, error)
	// Put writes a blob, unless the repository has it, and describes it.
	Put(ctx context.Context, mediaType string, content io.Reader) (ocispec.Descriptor, error)
}

// Limits bound what is saved and what is restored. Zero is the default.
type Limits struct {
	// Bytes bounds the sum of the sizes of all files, without their holes.
	// Default 2 GiB.
	Bytes int64
	// Entries bounds the number of files, directories and links. Default
	// 500,000.
	Entries int
}

func (l Limits) withDefaults() Limits {
	return Limits{Bytes: min(cmp.Or(l.Bytes, 2<<30), maxBytes), Entries: min(cmp.Or(l.Entries, 500_000), maxEntries)}
}

// Mark is a moment by the clock of the engine's machine, in nanoseconds, from
// which on a mount is not known to be as it was restored. With it, Save looks
// only at files that changed after it (Linux sets a file's ctime whenever it
// changes anything about the file, and lets nobody choose it); without it,
// zero, Save compares all contents. It is of use for the mount it was made
// for, and only until that machine's clock is set back.
type Mark int64

var (
	// ErrDamaged: what stands in the registry is not a State, or not whole.
	// It is a miss.
	ErrDamaged = errors.New("damaged cache of a mount")
	// ErrTooLarge: there is more than Limits allow.
	ErrTooLarge = errors.New("cache of a mount too large")
	// ErrInterrupted: a restore of this mount ended midway, or is going on,
	// so that what is in the mount may be a part. It is not saved; the next
	// restore begins with emptying it.
	ErrInterrupted = errors.New("mount that was not restored to its end")
)

func damagedf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Saved tells what Save did.
type Saved struct {
	// Unchanged: the mount is as the previous State says; nothing was
	// uploaded and the State returned is the previous one.
	Unchanged bool
	// Whole: the previous State, if any, was not built upon.
	Whole bool
	// Why the previous State could not be read, if that is why.
	Lost error
	// Of the mount: its entries and the bytes of its files.
	Entries int
	Bytes   int64
	// New files have contents the previous State does not have, of NewBytes
	// before compression; Changed entries are new or other than they were in
	// any way; Removed are gone.
	New, Changed, Removed int
	NewBytes              int64
	// LeftOut are sockets and devices: nothing that listens at the former
	// survives a build, and making the latter is not a cache's business. Busy
	// are files that changed while they were read, by another build.
	LeftOut, Busy int
	// Uploaded is the size of the blobs that were written, in bytes.
	Uploaded int64
}

// Restored tells what Restore did.
type Restored struct {
	// Warm: the mount was not empty, and was left as it is.
	Warm bool
	// Of the State: its entries and the bytes of its files.
	Entries int
	Bytes   int64
	// Downloaded is the size of the blobs that were read, in bytes.
	Downloaded int64
	// Mark is to be given to Save; zero if Warm.
	Mark Mark
}

// Save asks the Serve at the other end of conn what has changed since the
// previous State, nil if there is none, uploads that, and returns the new
// State. Its manifest is for the caller to write; if the registry refuses it
// because a blob of the previous State is gone, Save again without that.
//
// A conn that can be closed is closed when the context ends.
func Save(ctx context.Context, conn io.ReadWriter, previous *State, since Mark, blobs Blobs, limits Limits) (State, Saved, error) {
	return State{}, Saved{}, errors.New("save a mount: not written yet")
}

// Restore has the Serve at the other end of conn fill its mount, if that is
// empty. After an error the mount is as it was.
//
// A conn that can be closed is closed when the context ends.
func Restore(ctx context.Context, conn io.ReadWriter, state State, blobs Blobs, limits Limits) (Restored, error) {
	return Restored{}, errors.New("restore a mount: not written yet")
}
