package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"unicode"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// Exit statuses. 64 is EX_USAGE of sysexits.h.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 64
)

// dockerfileError is what is wrong with the Dockerfile at a path, "-" for
// standard input.
type dockerfileError struct {
	path string
	err  error
}

func (e *dockerfileError) Error() string {
	if errors.Is(e.err, fs.ErrNotExist) {
		return "no Dockerfile at " + e.path
	}
	return e.err.Error()
}

func (e *dockerfileError) Unwrap() error { return e.err }

// hint is the remedy: where to look, and for what.
func (e *dockerfileError) hint() string {
	const reference = "docs.docker.com/reference/dockerfile"
	var syntax *stages.SyntaxError
	var volatile *stages.VolatileError
	var edit *stages.EditError
	switch {
	case errors.As(e.err, &edit):
		return fmt.Sprintf("write the instruction at %s:%d in another way, with its keyword and a space on its first line", e.path, edit.Line)
	case errors.As(e.err, &volatile):
		return volatile.Remedy
	case errors.Is(e.err, fs.ErrNotExist):
		return "give the build context's directory after the image, or the Dockerfile with -f FILE"
	case errors.Is(e.err, stages.ErrNoStages):
		return "a Dockerfile begins with FROM"
	case errors.As(e.err, &syntax) && syntax.Syntax != "":
		return "the file asks for the frontend " + syntax.Syntax + ", which may know more than the parser built in here"
	case errors.As(e.err, &syntax) && e.path == "-":
		return fmt.Sprintf("look at line %d of what was piped in; the instructions are listed at %s", syntax.Line, reference)
	case errors.As(e.err, &syntax):
		return fmt.Sprintf("look at %s:%d; the instructions are listed at %s", e.path, syntax.Line, reference)
	default:
		return "check that " + e.path + " is a Dockerfile that can be read"
	}
}

// contextError is what is wrong with the directory of the build context.
type contextError struct {
	path string
	err  error
}

func (e *contextError) Error() string {
	switch {
	case errors.Is(e.err, fs.ErrNotExist):
		return "no directory " + e.path
	case errors.Is(e.err, syscall.ENOTDIR):
		return e.path + " is not a directory"
	}
	return "read the build context: " + e.err.Error()
}

func (e *contextError) Unwrap() error { return e.err }

// fail tells people about an error that ends the run before a build, with a
// remedy, and returns the exit status. It is the only place that turns types
// of errors into words and statuses.
func (s surroundings) fail(err error) int {
	message, hint, status := explain(err)
	s.platform.endGroup()
	s.platform.annotateError(err, message)
	writeError(s.stderr, message, hint)
	return status
}

func writeError(w io.Writer, message, hint string) {
	fmt.Fprintf(w, "error: %s\n", clean(message))
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", clean(hint))
	}
}

// explain puts an error into words.
func explain(err error) (message, hint string, status int) {
	message, status = err.Error(), exitFailed
	var (
		usage       *usageError
		digested    *registry.DigestError
		named       *registry.NameError
		target      *stages.UnknownTargetError
		dockerfile  *dockerfileError
		directory   *contextError
		unsupported *engine.UnsupportedError
		unreachable *engine.UnreachableError
		delivery    *engine.DeliveryError
		signalled   *signalError
	)
	switch {
	case errors.As(err, &signalled):
		return "interrupted: " + signalled.Error(), "", signalled.exitStatus()
	case errors.Is(err, context.Canceled):
		return "interrupted", "", exitFailed
	case errors.As(err, &usage):
		return usage.message, usage.hint, exitUsage
	case errors.As(err, &digested):
		return message, "the image is pushed to a tag; its digest is known after the build, see --metadata-file", exitUsage
	case errors.As(err, &named):
		return message, "an image is written [REGISTRY/]NAME[:TAG], as in ghcr.io/acme/app:1.2", exitUsage
	case errors.As(err, &target):
		return message, "the stages are " + strings.Join(target.Known, ", "), exitUsage
	case errors.As(err, &unsupported):
		return message, unsupported.Remedy, exitUsage
	case errors.As(err, &directory):
		return message, "after the image comes the directory of the build context; a Dockerfile is given with -f FILE", exitFailed
	case errors.As(err, &dockerfile):
		return message, dockerfile.hint(), exitFailed
	case errors.As(err, &unreachable):
		return message, "start the engine, or name one with DOCKER_HOST, BUILDKIT_HOST or --builder", exitFailed
	case errors.As(err, &delivery):
		hint := "the build itself succeeded: the same command again finds its cache and pushes"
		if delivery.Denied() {
			hint = "run docker login for the registry, with an account that may write there, or give --push=false"
		}
		return message, hint, exitFailed
	}
	return message, cmp.Or(registryHint(err), composeHint(err)), status
}

// registryHint is the remedy for what a registry answered.
func registryHint(err error) string {
	var failed *registry.Error
	if !errors.As(err, &failed) {
		return ""
	}
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		return "run docker login " + failed.Host + ", with an account that may write there"
	case errors.Is(err, registry.ErrUnavailable):
		return "check that the registry answers: docker login " + failed.Host
	}
	return ""
}

// exitStatus is that of the build: losing the cache never changes it.
func (s surroundings) exitStatus(ctx context.Context, outcome engine.Outcome, deliverErr error) int {
	var signalled *signalError
	switch {
	case (outcome.Result == engine.BuildCanceled || deliverErr != nil) && errors.As(context.Cause(ctx), &signalled):
		return signalled.exitStatus()
	case outcome.Result != engine.OK:
		return exitFailed
	case deliverErr != nil:
		return s.fail(deliverErr)
	}
	return exitOK
}

// clean makes a text of others safe for a terminal and a log: what could move a
// cursor, forge a line or turn the direction of what is read is left out.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
}
