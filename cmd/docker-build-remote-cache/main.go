package main

import (
	"context"
	"os"

	"github.com/sirupsen/logrus"
)

func main() {
	// Through it containerd's and BuildKit's packages talk to operators of
	// daemons; what matters to users comes back as an error.
	logrus.SetLevel(logrus.ErrorLevel)
	ctx, stop := notifySignals(context.Background(), os.Exit)
	code := run(ctx, surroundings{
		args: os.Args[1:], lookupEnv: os.LookupEnv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	})
	stop() // before the exit, which runs no deferred calls
	os.Exit(code)
}
