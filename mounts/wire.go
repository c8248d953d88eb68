package mounts

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// wire is one end of the stream between Serve and Save or Restore. What goes
// over it are frames: a letter, a length of four bytes, and so many bytes.
//
// Restore:
//
//	client                                 Serve
//	message request
//	                                       message filling: ready, or warm and the end
//	stream tree
//	stream pack, as often as there are
//	                                       message filled
//	message: all blobs had their digests
//	                                       message filled, with the mark
//
// Save:
//
//	client                                 Serve
//	message request
//	stream tree, of the previous State
//	                                       message changes: unchanged and the end, or not
//	stream pack, if there are new contents
//	                                       stream tree
//	                                       message packed
//	message: all blobs are written
type wire struct {
	r *bufio.Reader
	w io.Writer
}

const (
	frameMessage = 'm' // JSON
	frameData    = 'd' // a part of a stream
	frameEnd     = 'e' // of a stream
	frameError   = 'x' // the other end gives up
)

const maxFrame = 1 << 20

func newWire(conn io.ReadWriter) *wire {
	return &wire{r: bufio.NewReaderSize(conn, 256<<10), w: conn}
}

// request is what the client begins with.
type request struct {
	Save   bool
	Limits Limits
	Packs  []packFacts
	Since  Mark
	// Whole asks Save for a whole tree instead of changes.
	Whole bool
}

// filling answers a request to restore.
type filling struct{ Warm bool }

// filled ends a restore.
type filled struct {
	Mark Mark
	Warm bool // another build filled the mount meanwhile
}

// changes answers a request to save.
type changes struct {
	Unchanged bool
	// Pack: a pack of new contents follows. Kept are the IDs of the packs
	// that are needed beside it.
	Pack bool
	Kept []int
}

// packed ends a save.
type packed struct {
	Bytes         int64
	Contents      int
	Stored        int64 // the bytes of all files of the mount
	Entries       int
	Changed       int
	Removed       int
	New           int
	NewBytes      int64
	LeftOut, Busy int
}

func (w *wire) frame(letter byte, body []byte) error {
	head := make([]byte, 5, 5+len(body))
	head[0] = letter
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)))
	_, err := w.w.Write(append(head, body...))
	return err
}

func (w *wire) send(message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return w.frame(frameMessage, body)
}

// giveUp tells the other end why.
func (w *wire) giveUp(reason error) error {
	body, err := json.Marshal(newRemoteError(reason))
	if err != nil {
		return err
	}
	return w.frame(frameError, body)
}

// head reads the beginning of a frame; one in which the other end gives up is
// an error.
func (w *wire) head() (letter byte, size int, err error) {
	var head [5]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return 0, 0, fmt.Errorf("the other end is gone: %w", noEOF(err))
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > maxFrame {
		return 0, 0, fmt.Errorf("a frame of %d bytes", length)
	}
	if head[0] != frameError {
		return head[0], int(length), nil
	}
	body, err := w.body(int(length))
	if err != nil {
		return 0, 0, err
	}
	var remote remoteError
	if err := json.Unmarshal(body, &remote); err != nil {
		return 0, 0, fmt.Errorf("the other end gave up: %w", err)
	}
	return 0, 0, &remote
}

func (w *wire) body(size int) ([]byte, error) {
	body := make([]byte, size)
	_, err := io.ReadFull(w.r, body)
	return body, noEOF(err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (w *wire) receive(message any) error {
	letter, size, err := w.head()
	if err != nil {
		return err
	}
	if letter != frameMessage {
		return fmt.Errorf("a frame %q instead of a message", letter)
	}
	body, err := w.body(size)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, message)
}

// outgoing is a stream that is written; Close ends it.
type outgoing struct{ wire *wire }

func (o outgoing) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		part := p[:min(len(p), maxFrame)]
		if err := o.wire.frame(frameData, part); err != nil {
			return written, err
		}
		written += len(part)
		p = p[len(part):]
	}
	return written, nil
}

func (o outgoing) Close() error { return o.wire.frame(frameEnd, nil) }

// incoming is a stream that is read, to its end.
type incoming struct {
	wire *wire
	left int
	done bool
	err  error // after which nothing can be read
}

func (i *incoming) Read(p []byte) (int, error) {
	for i.left == 0 && !i.done && i.err == nil {
		letter, size, err := i.wire.head()
		switch {
		case err != nil:
			i.err = err
		case letter == frameData:
			i.left = size
		case letter == frameEnd && size == 0:
			i.done = true
		default:
			i.err = fmt.Errorf("a frame %q of %d bytes in a stream", letter, size)
		}
	}
	if i.err != nil {
		return 0, i.err
	}
	if i.left == 0 {
		return 0, io.EOF
	}
	n, err := i.wire.r.Read(p[:min(len(p), i.left)])
	i.left -= n
	if err != nil {
		i.err = noEOF(err)
	}
	return n, i.err
}

// atEnd reads the end of the stream, if that is what comes.
func (i *incoming) atEnd() bool {
	n, err := i.Read(make([]byte, 1))
	return n == 0 && err == io.EOF
}

// drain reads what is left of the stream.
func (i *incoming) drain() error {
	_, err := io.Copy(io.Discard, i)
	return err
}

// remoteError is an error of the other end, of the same kind there and here.
type remoteError struct {
	Text string
	Kind string `json:",omitempty"`
}

var remoteKinds = map[string]error{"damaged": ErrDamaged, "large": ErrTooLarge, "interrupted": ErrInterrupted}

func newRemoteError(err error) *remoteError {
	remote := &remoteError{Text: err.Error()}
	for kind, of := range remoteKinds {
		if errors.Is(err, of) {
			remote.Kind = kind
		}
	}
	return remote
}

func (e *remoteError) Error() string { return e.Text }

// Is keeps the kind of the error.
func (e *remoteError) Is(target error) bool {
	kind, ok := remoteKinds[e.Kind]
	return ok && kind == target
}

// closeAtEnd closes a conn that can be closed when the context ends.
func closeAtEnd(ctx context.Context, conn io.ReadWriter) (stop func() bool) {
	closer, ok := conn.(io.Closer)
	if !ok {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() { closer.Close() })
}
