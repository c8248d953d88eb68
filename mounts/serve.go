package mounts

import (
	"context"
	"fmt"
	"io"
)

// Serve stands in the mount, the directory dir: it does the one thing that the
// other end of conn asks for, Save or Restore, and returns. The error is told
// to the other end, too, if that can be reached.
//
// A conn that can be closed is closed when the context ends.
func Serve(ctx context.Context, dir string, conn io.ReadWriter) error {
	defer closeAtEnd(ctx, conn)()
	w := newWire(conn)
	err := serve(ctx, dir, w)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = w.giveUp(err) // an other end that is gone needs no reason
		return fmt.Errorf("serve a mount: %w", err)
	}
	return nil
}

// receiveTree reads the tree that a request speaks of.
func receiveTree(w *wire, asked request) (tree, error) {
	stream := &incoming{wire: w}
	raw, err := io.ReadAll(io.LimitReader(stream, maxTreeSize+1))
	if err != nil {
		return tree{}, err
	}
	if len(raw) > maxTreeSize {
		return tree{}, fmt.Errorf("%w: a tree of more than %d bytes", ErrTooLarge, maxTreeSize)
	}
	if len(raw) == 0 {
		return tree{whole: true}, nil
	}
	return decodeTree(raw, asked.Limits)
}
