package mounts

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// serveSave is the side of a Save that stands in the mount.
func serveSave(ctx context.Context, m *mount, w *wire, asked request) error {
	before, err := receiveTree(w, asked)
	if err != nil {
		return err
	}
	found, err := scanMount(ctx, m.fd, before, asked.Since, asked.Limits)
	if err != nil {
		return err
	}
	s := saving{ctx: ctx, root: m.fd, scan: found, busy: make([]bool, len(found.entries)), before: before}
	if err := s.compare(); err != nil {
		return err
	}
	answer := s.choose(asked.Packs)
	answer.Unchanged = !answer.Pack && len(answer.Kept) == len(asked.Packs) && s.unchanged()
	if err := w.send(answer); err != nil || answer.Unchanged {
		return err
	}
	pack := &packWriter{}
	if answer.Pack {
		if pack, err = s.pack(w, nextID(asked.Packs)); err != nil {
			return err
		}
	}
	after := s.after()
	change := after.since(before)
	result := packed{
		Bytes: pack.bytes, Contents: pack.contents, Changed: len(change.entries), Removed: len(change.removed),
		New: s.new, NewBytes: s.newBytes, LeftOut: found.leftOut,
	}
	result.Entries, result.Stored = after.size()
	for _, busy := range s.busy {
		if busy {
			result.Busy++
		}
	}
	if asked.Whole {
		change = after
	}
	stream := outgoing{w}
	if _, err := stream.Write(change.compress()); err != nil {
		return err
	}
	if err := stream.Close(); err != nil {
		return err
	}
	if err := w.send(result); err != nil {
		return err
	}
	// The container stays until the other end is done: without that it could
	// not tell a failure.
	return w.receive(&struct{}{})
}

// saving compares what was scanned with what is known, and packs the rest.
type saving struct {
	ctx    context.Context
	root   int
	scan   scan
	busy   []bool // entries that are left out
	before tree

	known    map[identifiedContent]content // of the tree before
	missing  []int                         // files whose content must be packed, in order
	new      int
	newBytes int64
}

type identifiedContent struct {
	sum  [sha256.Size]byte
	size int64
}

func (e *entry) identified() identifiedContent { return identifiedContent{e.content.sum, e.bytes()} }

// compare finds out which contents are known.
func (s *saving) compare() error {
	s.known = map[identifiedContent]content{}
	sizes := map[int64]bool{}
	for i := range s.before.entries {
		if e := &s.before.entries[i]; e.bytes() > 0 {
			s.known[e.identified()] = e.content
			sizes[e.bytes()] = true
		}
	}
	var unsure []int
	for i := range s.scan.entries {
		e := &s.scan.entries[i]
		switch size := e.bytes(); {
		case size == 0 || e.content.pack != 0:
		case sizes[size]:
			unsure = append(unsure, i)
		default:
			s.missing = append(s.missing, i)
		}
	}
	sums := make([]*[sha256.Size]byte, len(unsure))
	err := s.inParallel(len(unsure), func(c *contents, n int) error {
		sum, err := c.copy(io.Discard, unsure[n], make([]byte, 32<<10))
		if errors.Is(err, errBusy) {
			return nil
		}
		sums[n] = &sum
		return err
	})
	if err != nil {
		return err
	}
	for n, i := range unsure {
		e := &s.scan.entries[i]
		if sums[n] == nil {
			s.busy[i] = true
			continue
		}
		if kept, ok := s.known[identifiedContent{*sums[n], e.bytes()}]; ok {
			e.content = kept
		} else {
			s.missing = append(s.missing, i)
		}
	}
	return nil
}

// workers is how many files are worked on at once.
func workers() int { return min(runtime.GOMAXPROCS(0)*2, 8) }

// inParallel calls do for 0 to n-1, each worker with a way of its own to the
// files, and near numbers one after the other.
func (s *saving) inParallel(n int, do func(*contents, int) error) error {
	group, ctx := errgroup.WithContext(s.ctx)
	chunk := n/workers()/4 + 1
	starts := make(chan int)
	group.Go(func() error {
		defer close(starts)
		for start := 0; start < n; start += chunk {
			select {
			case starts <- start:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers() {
		group.Go(func() error {
			c := &contents{scan: &s.scan, place: newPlace(s.root)}
			defer c.place.close()
			for start := range starts {
				for i := start; i < min(start+chunk, n); i++ {
					if err := do(c, i); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// choose says which packs stay, and adds the contents of the others to what
// must be packed.
func (s *saving) choose(packs []packFacts) changes {
	live := map[int]int64{}
	counted := map[content]bool{}
	for i := range s.scan.entries {
		e := &s.scan.entries[i]
		if s.busy[i] || e.content.pack == 0 || counted[e.content] {
			continue
		}
		counted[e.content] = true
		live[e.content.pack] += e.bytes()
	}
	var uses []packUse
	for _, facts := range packs {
		uses = append(uses, packUse{facts, live[facts.ID]})
	}
	s.new = len(s.missing)
	for _, i := range s.missing {
		s.newBytes += s.scan.entries[i].bytes()
	}
	up := given(uses, s.newBytes)
	for i := range s.scan.entries {
		if e := &s.scan.entries[i]; !s.busy[i] && e.content.pack != 0 && slices.Contains(up, e.content.pack) {
			s.missing = append(s.missing, i)
		}
	}
	slices.Sort(s.missing)
	var kept []int
	for _, facts := range packs {
		if !slices.Contains(up, facts.ID) {
			kept = append(kept, facts.ID)
		}
	}
	return changes{Pack: len(s.missing) > 0, Kept: kept}
}

// unchanged reports whether the mount is the same as before, when there is
// nothing to pack.
func (s *saving) unchanged() bool {
	change := s.after().since(s.before)
	return len(change.entries) == 0 && len(change.removed) == 0
}

// after is the tree without what was busy.
func (s *saving) after() tree {
	after := tree{whole: true}
	absent := map[string]bool{}
	for i, e := range s.scan.entries {
		if s.busy[i] {
			absent[e.path] = true
		}
	}
	for i, e := range s.scan.entries {
		if e.kind == hardlink && absent[e.target] {
			s.busy[i] = true
		}
		if !s.busy[i] {
			after.entries = append(after.entries, e)
		}
	}
	return after
}

// Small contents are read ahead, as many at a time.
const (
	smallContent = 1 << 20
	readAhead    = 32
)

// reading is a file on its way into the pack.
type reading struct {
	sum  [sha256.Size]byte
	data []byte // if it is small
	err  error
}

// pack writes the missing contents, in the order of the paths: one tree gives
// the same bytes each time.
func (s *saving) pack(w *wire, id int) (*packWriter, error) {
	stream := bufio.NewWriterSize(outgoing{w}, 256<<10)
	pack, err := newPackWriter(stream)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(s.ctx)
	turns := make(chan chan reading, readAhead)
	jobs := make(chan job)
	group.Go(func() error {
		defer close(turns)
		defer close(jobs)
		for _, i := range s.missing {
			done := make(chan reading, 1)
			select {
			case turns <- done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select {
			case jobs <- job{i, done}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers() {
		group.Go(func() error {
			c := &contents{scan: &s.scan, place: newPlace(s.root)}
			defer c.place.close()
			for j := range jobs {
				j.done <- c.read(j.entry)
			}
			return nil
		})
	}
	group.Go(func() error {
		c := &contents{scan: &s.scan, place: newPlace(s.root)}
		defer c.place.close()
		next := 0
		for done := range turns {
			select {
			case r := <-done:
				if err := s.add(pack, c, id, s.missing[next], r); err != nil {
					return err
				}
				next++
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := pack.Close(); err != nil {
		return nil, err
	}
	if err := stream.Flush(); err != nil {
		return nil, err
	}
	return pack, outgoing{w}.Close()
}

type job struct {
	entry int
	done  chan<- reading
}

// read reads a small content, and of a large one only the sum.
func (c *contents) read(i int) reading {
	var data bytes.Buffer
	to := io.Writer(&data)
	size := c.scan.entries[i].bytes()
	if size > smallContent {
		to = io.Discard
	} else {
		data.Grow(int(size))
	}
	sum, err := c.copy(to, i, make([]byte, min(cmp.Or(size, 1), 256<<10)))
	return reading{sum, data.Bytes(), err}
}

// add puts a content into the pack, unless it is there.
func (s *saving) add(pack *packWriter, c *contents, id, i int, r reading) error {
	e := &s.scan.entries[i]
	switch {
	case errors.Is(r.err, errBusy):
		s.busy[i] = true
		return nil
	case r.err != nil:
		return r.err
	}
	key := identifiedContent{r.sum, e.bytes()}
	if there := s.known[key]; there.pack == id {
		e.content = there
		return nil
	}
	index, err := pack.begin(e.bytes())
	if err != nil {
		return err
	}
	if e.bytes() <= smallContent {
		if _, err := pack.Write(r.data); err != nil {
			return err
		}
	} else {
		sum, err := s.addLarge(pack, c, i)
		if err == nil && sum != r.sum {
			err = errBusy
		}
		if errors.Is(err, errBusy) {
			s.busy[i] = true // what was written of it is of no use to anyone
			return nil
		}
		if err != nil {
			return err
		}
	}
	e.content = content{r.sum, id, index}
	s.known[key] = e.content
	return nil
}

// addLarge writes as many bytes as the entry has, whatever becomes of the file.
func (s *saving) addLarge(pack *packWriter, c *contents, i int) (sum [sha256.Size]byte, err error) {
	counted := &counting{w: pack}
	sum, err = c.copy(counted, i, make([]byte, 256<<10))
	if errors.Is(err, errBusy) {
		if _, err := io.CopyN(pack, zeros{}, c.scan.entries[i].bytes()-counted.n); err != nil {
			return sum, err
		}
	}
	return sum, err
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
