package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signalError is why a context ended: the user, or the CI, has sent a signal.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return e.signal.String() }

// exitStatus is what a shell reports for a process that the signal ended.
func (e *signalError) exitStatus() int { return 128 + int(e.signal) }

// notifySignals returns a context that the first SIGINT or SIGTERM ends, with
// a signalError as its cause. What was completed is then still saved; a second
// signal ends the process at once, with exit.
//
// CI platforms send both kinds as a matter of course: GitHub and Azure SIGINT,
// then SIGTERM 7.5 s later as the announcement of SIGKILL (actions/runner
// ProcessInvoker.cs). A SIGTERM after a SIGINT is therefore no second thought
// of a user and does not end the process; a second SIGINT is.
func notifySignals(parent context.Context, exit func(int)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	received := make(chan os.Signal, 3)
	signal.Notify(received, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		var first *signalError
		for {
			select {
			case s := <-received:
				now := &signalError{s.(syscall.Signal)}
				switch {
				case first == nil:
					first = now
					cancel(now)
				case first.signal == syscall.SIGINT && now.signal == syscall.SIGTERM:
				default:
					exit(first.exitStatus())
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(received)
		close(done)
		cancel(nil)
	}
}
