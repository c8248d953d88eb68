package mounts

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

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

// Mark is a moment of a mount by the clock of the engine's machine, from
// which on a mount is not known to be as it was restored. With it, Save looks
// only at files that changed after it (Linux sets a file's ctime whenever it
// changes anything about the file, and lets nobody choose it); without it,
// zero, Save compares all contents. It is of use until that machine's clock is
// set back. For another mount than it was made for, as builds have of
// sharing=private, it counts as none.
type Mark struct {
	Time  int64  // in nanoseconds
	Mount uint64 // the inode of the mount itself
}

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
// A conn that can be closed is closed when the context ends; after an error it
// is of no more use, and closing it is what tells the other end.
func Save(ctx context.Context, conn io.ReadWriter, previous *State, since Mark, blobs Blobs, limits Limits) (State, Saved, error) {
	defer closeAtEnd(ctx, conn)()
	w := newWire(conn)
	state, saved, err := save(ctx, w, previous, since, blobs, limits.withDefaults())
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return State{}, Saved{}, fmt.Errorf("save a mount: %w", err)
	}
	return state, saved, nil
}

func save(ctx context.Context, w *wire, previous *State, since Mark, blobs Blobs, limits Limits) (State, Saved, error) {
	var base State
	var before tree
	saved := Saved{Whole: true}
	if previous != nil {
		t, _, err := readTree(ctx, *previous, blobs, limits)
		switch {
		case err == nil:
			base, before = *previous, t
			saved.Whole = false
		case ctx.Err() != nil:
			return State{}, Saved{}, err
		default:
			saved.Lost = err
			since = Mark{}
		}
	}
	asked := request{Save: true, Limits: limits, Packs: base.packFacts(), Since: since, Whole: wholeTree(base)}
	if err := w.send(asked); err != nil {
		return State{}, Saved{}, err
	}
	if err := sendTree(w, before); err != nil {
		return State{}, Saved{}, err
	}
	var answer changes
	if err := w.receive(&answer); err != nil {
		return State{}, Saved{}, err
	}
	if answer.Unchanged {
		saved.Unchanged = true
		saved.Entries, saved.Bytes = before.size()
		return base, saved, nil
	}
	put := func(mediaType string, longest int64) (ocispec.Descriptor, error) {
		stream := &incoming{wire: w}
		blob, err := blobs.Put(ctx, mediaType, io.LimitReader(stream, longest))
		if stream.err != nil {
			return blob, stream.err // what the other end says is the cause
		}
		if err == nil && !stream.atEnd() {
			err = fmt.Errorf("%w: a blob of more than %d bytes", ErrTooLarge, longest)
		}
		saved.Uploaded += blob.Size
		return blob, err
	}
	var next State
	for _, pack := range base.Packs {
		if slices.Contains(answer.Kept, pack.ID) {
			next.Packs = append(next.Packs, pack)
		}
	}
	pack := Pack{}
	var err error
	if answer.Pack {
		if pack.Blob, err = put(MediaTypePack, 2*limits.Bytes+maxTreeSize); err != nil {
			return State{}, Saved{}, err
		}
	}
	treeBlob, err := put(MediaTypeTree, maxTreeSize)
	if err != nil {
		return State{}, Saved{}, err
	}
	var result packed
	if err := w.receive(&result); err != nil {
		return State{}, Saved{}, err
	}
	if result.Contents > 0 {
		pack.ID, pack.Bytes, pack.Contents = nextID(asked.Packs), result.Bytes, result.Contents
		next.Packs = append(next.Packs, pack)
	}
	if !asked.Whole {
		next.Trees = slices.Clone(base.Trees)
	}
	next.Trees = append(next.Trees, treeBlob)
	next.Entries, next.Bytes = result.Entries, result.Stored
	if err := next.check(); err != nil {
		return State{}, Saved{}, err
	}
	if _, err := blobs.Put(ctx, ocispec.DescriptorEmptyJSON.MediaType, bytes.NewReader(ocispec.DescriptorEmptyJSON.Data)); err != nil {
		return State{}, Saved{}, err
	}
	saved.Entries, saved.Bytes = result.Entries, result.Stored
	saved.New, saved.Changed, saved.Removed, saved.NewBytes = result.New, result.Changed, result.Removed, result.NewBytes
	saved.LeftOut, saved.Busy = result.LeftOut, result.Busy
	// Everything is written: that the other end may be gone changes nothing.
	_ = w.send(struct{}{})
	return next, saved, nil
}

func (s State) packFacts() []packFacts {
	var facts []packFacts
	for _, pack := range s.Packs {
		facts = append(facts, packFacts{pack.ID, pack.Bytes, pack.Contents})
	}
	return facts
}

func nextID(packs []packFacts) int {
	if len(packs) == 0 {
		return 1
	}
	return packs[len(packs)-1].ID + 1
}

// readTree reads what is in a mount by its state, and verifies it.
func readTree(ctx context.Context, s State, blobs Blobs, limits Limits) (t tree, read int64, err error) {
	if err := s.check(); err != nil {
		return tree{}, 0, err
	}
	for _, pack := range s.Packs {
		// Nobody packs much more than is in use: see given.
		if pack.Bytes > 2*limits.Bytes {
			return tree{}, 0, fmt.Errorf("%w: a pack of %d bytes", ErrTooLarge, pack.Bytes)
		}
	}
	left := int64(maxTreeSize)
	for _, blob := range s.Trees {
		change, size, err := readTreeBlob(ctx, blob, blobs, left, limits)
		if err != nil {
			return tree{}, read, err
		}
		left -= size
		read += blob.Size
		if t, err = t.apply(change); err != nil {
			return tree{}, read, err
		}
		if len(t.entries) > limits.Entries {
			return tree{}, read, fmt.Errorf("%w: more than %d entries", ErrTooLarge, limits.Entries)
		}
	}
	return t, read, t.check(s.packFacts(), limits)
}

func readTreeBlob(ctx context.Context, blob ocispec.Descriptor, blobs Blobs, longest int64, limits Limits) (t tree, size int64, err error) {
	r, err := blobs.Get(ctx, blob)
	if err != nil {
		return tree{}, 0, err
	}
	defer r.Close()
	return decompressTree(r, longest, limits)
}

func sendTree(w *wire, t tree) error {
	stream := outgoing{w}
	if len(t.entries) > 0 {
		if _, err := stream.Write(t.encode()); err != nil {
			return err
		}
	}
	return stream.Close()
}

// Restore has the Serve at the other end of conn fill its mount, if that is
// empty. After an error the mount is as it was.
//
// A conn that can be closed is closed when the context ends; after an error it
// is of no more use, and closing it is what tells the other end.
func Restore(ctx context.Context, conn io.ReadWriter, state State, blobs Blobs, limits Limits) (Restored, error) {
	defer closeAtEnd(ctx, conn)()
	restored, err := restore(ctx, newWire(conn), state, blobs, limits.withDefaults())
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Restored{}, fmt.Errorf("restore a mount: %w", err)
	}
	return restored, nil
}

func restore(ctx context.Context, w *wire, state State, blobs Blobs, limits Limits) (Restored, error) {
	facts := state.packFacts()
	if err := w.send(request{Limits: limits, Packs: facts}); err != nil {
		return Restored{}, err
	}
	var answer filling
	if err := w.receive(&answer); err != nil || answer.Warm {
		return Restored{Warm: answer.Warm}, err
	}
	t, read, err := readTree(ctx, state, blobs, limits)
	if err != nil {
		return Restored{}, errors.Join(err, w.giveUp(err))
	}
	// What the other end says while it is sent to is the end of it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, 1)
	var done filled
	go func() { answers <- w.receive(&done) }()
	sent := make(chan error, 1)
	go func() { sent <- send(ctx, w, t, state, blobs) }()
	for range 2 {
		select {
		case err = <-answers: // filled, or why not
		case err = <-sent:
			if err != nil {
				err = errors.Join(err, w.giveUp(err))
			}
		}
		if err != nil {
			return Restored{}, err
		}
	}
	if err := w.send(struct{}{}); err != nil {
		return Restored{}, err
	}
	if err := w.receive(&done); err != nil {
		return Restored{}, err
	}
	if done.Warm {
		return Restored{Warm: true}, nil
	}
	restored := Restored{Downloaded: read, Mark: done.Mark}
	restored.Entries, restored.Bytes = t.size()
	for _, pack := range state.Packs {
		restored.Downloaded += pack.Blob.Size
	}
	return restored, nil
}

// send sends all that a mount is filled with.
func send(ctx context.Context, w *wire, t tree, state State, blobs Blobs) error {
	if err := sendTree(w, t); err != nil {
		return err
	}
	for _, pack := range state.Packs {
		if err := sendPack(ctx, w, pack, blobs); err != nil {
			return err
		}
	}
	return nil
}

func sendPack(ctx context.Context, w *wire, pack Pack, blobs Blobs) error {
	r, err := blobs.Get(ctx, pack.Blob)
	if err != nil {
		return err
	}
	defer r.Close()
	stream := outgoing{w}
	if _, err := io.CopyBuffer(stream, onlyReader{r}, make([]byte, 256<<10)); err != nil {
		return err
	}
	return stream.Close()
}

// onlyReader keeps io.CopyBuffer from going without the buffer.
type onlyReader struct{ io.Reader }
