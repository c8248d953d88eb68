package mounts

import (
	"context"
	"errors"
	"io"
)

// Serve stands in the mount, the directory dir: it does the one thing that the
// other end of conn asks for, Save or Restore, and returns. The error is told
// to the other end, too, if that can be reached.
//
// A conn that can be closed is closed when the context ends.
func Serve(ctx context.Context, dir string, conn io.ReadWriter) error {
	return errors.New("serve a mount: not written yet")
}
