package main

import (
	"context"
	"fmt"
	"net"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/mounts"
)

// mountVerb stands in the image's place where this program runs inside a cache
// mount: see engine.Helper. It is nobody's to type.
const mountVerb = "serve-cache-mount"

// serveMount does what the process that made the step asks for.
func serveMount(ctx context.Context, s surroundings) int {
	args := s.args[1:]
	if len(args) < 2 {
		return s.fail(usagef("it is started by a build", "%s needs a directory and a socket", mountVerb))
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", args[1])
	if err == nil {
		err = mounts.Serve(ctx, args[0], conn)
	}
	if err != nil {
		fmt.Fprintln(s.stderr, clean(err.Error()))
		return exitFailed
	}
	return exitOK
}
