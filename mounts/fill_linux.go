package mounts

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// serveRestore is the side of a Restore that stands in the mount.
//
// What is restored is first made as a whole in a directory of its own, which
// nobody knows of, and then moved to its places name by name. Whoever dies
// before has the directory left behind, and with it the sign that the mount is
// not whole.
func serveRestore(ctx context.Context, m *mount, w *wire, asked request) error {
	staging, err := claim(ctx, m)
	if err != nil {
		return err
	}
	if staging == nil {
		return w.send(filling{Warm: true})
	}
	defer staging.close()
	if err := w.send(filling{}); err != nil {
		return err
	}
	t, err := receiveTree(w, asked)
	if err != nil {
		return err
	}
	if err := t.check(asked.Packs, asked.Limits); err != nil {
		return err
	}
	if err := fill(ctx, staging.fd, t, w, asked.Packs); err != nil {
		return err
	}
	if err := w.send(filled{}); err != nil {
		return err
	}
	if err := w.receive(&struct{}{}); err != nil {
		return err
	}
	outcome, err := staging.moveOut(t)
	if err != nil {
		return err
	}
	return w.send(outcome)
}

// fill makes a tree in an empty directory. Directories come first, then files,
// then what is without content; until the last file is written there is no
// link among them, and directories are entered by descriptors that follow
// none.
func fill(ctx context.Context, to int, t tree, w *wire, packs []packFacts) error {
	p := newPlace(to)
	defer p.close()
	for i := range t.entries[1:] {
		e := &t.entries[1+i]
		if e.kind != directory {
			continue
		}
		parent, name, err := p.of(e.path)
		if err != nil {
			return err
		}
		if err := unix.Mkdirat(parent, name, 0o700); err != nil {
			return pathError("make directory", e.path, err)
		}
	}
	if err := fillFiles(ctx, to, t, w, packs); err != nil {
		return err
	}
	for _, makeOne := range []func(*place, *entry) error{makeFIFO, makeSymlink, makeHardlink} {
		for i := range t.entries {
			if err := makeOne(p, &t.entries[i]); err != nil {
				return err
			}
		}
	}
	// Last, since what is made in a directory sets its time; and from below,
	// since it may take away the right to enter.
	for i := len(t.entries) - 1; i > 0; i-- {
		e := &t.entries[i]
		if e.kind != directory {
			continue
		}
		parent, name, err := p.of(e.path)
		if err != nil {
			return err
		}
		fd, err := openAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return pathError("open", e.path, err)
		}
		err = setOpen(fd, e)
		unix.Close(fd)
		if err == nil {
			err = setTimes(parent, name, e.mtime)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// delivery is a content on its way to the files that want it.
type delivery struct {
	entries []*entry
	data    []byte
}

// fillFiles writes all files, those of one content together.
func fillFiles(ctx context.Context, to int, t tree, w *wire, packs []packFacts) error {
	type at struct{ pack, index int }
	wanted := map[at][]*entry{}
	var hollow []*entry
	for i := range t.entries {
		e := &t.entries[i]
		switch {
		case e.kind != file:
		case e.bytes() == 0:
			hollow = append(hollow, e)
		default:
			key := at{e.content.pack, e.content.index}
			wanted[key] = append(wanted[key], e)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	deliveries := make(chan delivery, readAhead)
	for range workers() {
		group.Go(func() error {
			p := newPlace(to)
			defer p.close()
			for d := range deliveries {
				if sha256.Sum256(d.data) != d.entries[0].content.sum && len(d.data) > 0 {
					return damagedf("the content of %q is another", d.entries[0].path)
				}
				for _, e := range d.entries {
					if err := writeFile(p, e, d.data); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(deliveries)
		deliver := func(d delivery) error {
			select {
			case deliveries <- d:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		for len(hollow) > 0 {
			some := min(len(hollow), 64)
			if err := deliver(delivery{entries: hollow[:some]}); err != nil {
				return err
			}
			hollow = hollow[some:]
		}
		p := newPlace(to)
		defer p.close()
		for _, facts := range packs {
			stream := &incoming{wire: w}
			err := eachContent(stream, facts, func(index int, size int64, content io.Reader) error {
				key := at{facts.ID, index}
				entries := wanted[key]
				delete(wanted, key)
				switch {
				case len(entries) == 0:
					return nil
				case entries[0].bytes() != size:
					return damagedf("the content of %q has %d bytes", entries[0].path, size)
				case size > smallContent:
					return writeLarge(p, entries, content)
				}
				data := make([]byte, size)
				if _, err := io.ReadFull(content, data); err != nil {
					return err
				}
				return deliver(delivery{entries, data})
			})
			if err != nil {
				return err
			}
			if err := stream.drain(); err != nil {
				return err
			}
		}
		for _, entries := range wanted {
			return damagedf("the content of %q is missing", entries[0].path)
		}
		return nil
	})
	return group.Wait()
}

func eachContent(r io.Reader, facts packFacts, use func(index int, size int64, content io.Reader) error) error {
	pack, err := newPackReader(r, facts)
	if err != nil {
		return err
	}
	defer pack.Close()
	for {
		index, size, err := pack.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := use(index, size, pack); err != nil {
			return err
		}
	}
}

// writeFile makes a file of its whole content.
func writeFile(p *place, e *entry, data []byte) error {
	return makeFile(p, e, func(f *os.File) error {
		for _, extent := range e.parts() {
			if _, err := f.WriteAt(data[:extent.size], extent.offset); err != nil {
				return err
			}
			data = data[extent.size:]
		}
		return nil
	})
}

// writeLarge makes the first of some files from a stream, and the others from
// the first.
func writeLarge(p *place, entries []*entry, content io.Reader) error {
	first := entries[0]
	hash := sha256.New()
	if err := makeFile(p, first, func(f *os.File) error {
		return writeExtents(f, first, io.TeeReader(content, hash))
	}); err != nil {
		return err
	}
	if [sha256.Size]byte(hash.Sum(nil)) != first.content.sum {
		return damagedf("the content of %q is another", first.path)
	}
	for _, e := range entries[1:] {
		parent, name, err := p.of(first.path)
		if err != nil {
			return err
		}
		fd, err := openAt(parent, name, unix.O_RDONLY)
		if err != nil {
			return pathError("open", first.path, err)
		}
		source := os.NewFile(uintptr(fd), first.path)
		err = makeFile(p, e, func(f *os.File) error { return writeExtents(f, e, contentOf(source, first)) })
		source.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func writeExtents(f *os.File, e *entry, content io.Reader) error {
	buffer := make([]byte, 256<<10)
	for _, extent := range e.parts() {
		to := struct{ io.Writer }{io.NewOffsetWriter(f, extent.offset)}
		n, err := io.CopyBuffer(to, onlyReader{io.LimitReader(content, extent.size)}, buffer)
		if err != nil {
			return err
		}
		if n < extent.size {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// makeFile makes a new file, has it written, and sets all else.
func makeFile(p *place, e *entry, write func(*os.File) error) error {
	parent, name, err := p.of(e.path)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return pathError("make", e.path, err)
	}
	f := os.NewFile(uintptr(fd), e.path)
	defer f.Close()
	if e.sparse {
		if err := unix.Ftruncate(fd, e.size); err != nil {
			return pathError("truncate", e.path, err)
		}
	}
	if e.bytes() > 0 {
		if err := write(f); err != nil {
			return err
		}
	}
	if err := setOpen(fd, e); err != nil {
		return err
	}
	return setTimes(parent, name, e.mtime)
}

// setOpen sets owner, mode and attributes, in the order in which none undoes
// another: a new owner takes setuid and capabilities away.
func setOpen(fd int, e *entry) error {
	if err := unix.Fchown(fd, int(e.uid), int(e.gid)); err != nil {
		return pathError("change owner", e.path, err)
	}
	if err := unix.Fchmod(fd, e.mode); err != nil {
		return pathError("change mode", e.path, err)
	}
	for _, x := range e.xattrs {
		if err := unix.Fsetxattr(fd, x.name, []byte(x.value), 0); err != nil {
			return pathError("set attribute "+x.name, e.path, err)
		}
	}
	return nil
}

func setTimes(directory int, name string, at instant) error {
	modified, err := unix.TimeToTimespec(time.Unix(at.sec, int64(at.nsec)))
	if err != nil {
		return pathError("set times", name, err)
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, modified}
	if err := unix.UtimesNanoAt(directory, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("set times", name, err)
	}
	return nil
}

func makeFIFO(p *place, e *entry) error {
	if e.kind != fifo {
		return nil
	}
	parent, name, err := p.of(e.path)
	if err != nil {
		return err
	}
	if err := unix.Mknodat(parent, name, unix.S_IFIFO|0o600, 0); err != nil {
		return pathError("make", e.path, err)
	}
	// Opened for both directions it does not wait for the other end.
	fd, err := openAt(parent, name, unix.O_RDWR|unix.O_NONBLOCK)
	if err != nil {
		return pathError("open", e.path, err)
	}
	defer unix.Close(fd)
	if err := setOpen(fd, e); err != nil {
		return err
	}
	return setTimes(parent, name, e.mtime)
}

func makeSymlink(p *place, e *entry) error {
	if e.kind != symlink {
		return nil
	}
	parent, name, err := p.of(e.path)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(e.target, parent, name); err != nil {
		return pathError("link", e.path, err)
	}
	if err := unix.Fchownat(parent, name, int(e.uid), int(e.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("change owner", e.path, err)
	}
	return setTimes(parent, name, e.mtime)
}

func makeHardlink(p *place, e *entry) error {
	if e.kind != hardlink {
		return nil
	}
	// Two directories are needed at once.
	from := newPlace(p.root)
	defer from.close()
	old, oldName, err := from.of(e.target)
	if err != nil {
		return err
	}
	parent, name, err := p.of(e.path)
	if err != nil {
		return err
	}
	if err := unix.Linkat(old, oldName, parent, name, 0); err != nil {
		return pathError("link", e.path, err)
	}
	return nil
}
