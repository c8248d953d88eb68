package mounts

import (
	"context"
	"os"
)

// mount is the directory that Serve stands in.
type mount struct {
	root *os.Root
	fd   int // for what os.Root has no method
}

func serve(ctx context.Context, dir string, w *wire) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	self, err := root.Open(".")
	if err != nil {
		return err
	}
	defer self.Close()
	var asked request
	if err := w.receive(&asked); err != nil {
		return err
	}
	asked.Limits = asked.Limits.withDefaults()
	m := &mount{root, int(self.Fd())}
	if asked.Save {
		return serveSave(ctx, m, w, asked)
	}
	return serveRestore(ctx, m, w, asked)
}
