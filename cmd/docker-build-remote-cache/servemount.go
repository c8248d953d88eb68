package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/mounts"
)

// mountVerb stands in the image's place where this program runs inside a cache
// mount: see engine.Helper. It is nobody's to type.
const mountVerb = "serve-cache-mount"

// hangUpLimit bounds how long the last words may be under way.
const hangUpLimit = time.Minute

// serveMount does what the process that made the step asks for.
func serveMount(ctx context.Context, s surroundings) int {
	args := s.args[1:]
	if len(args) < 2 {
		return s.fail(usagef("it is started by a build", "%s needs a directory and a socket", mountVerb))
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: args[1], Net: "unix"})
	if err == nil {
		err = mounts.Serve(ctx, args[0], conn)
		// When the container ends the daemon drops what it has not forwarded
		// yet: the other end says that it has all by hanging up.
		conn.CloseWrite()
		conn.SetReadDeadline(time.Now().Add(hangUpLimit))
		io.Copy(io.Discard, conn)
	}
	if err != nil {
		fmt.Fprintln(s.stderr, clean(err.Error()))
		return exitFailed
	}
	return exitOK
}
