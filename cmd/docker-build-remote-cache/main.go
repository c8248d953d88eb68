package main

import (
	"context"
	"os"
)

func main() {
	ctx, stop := notifySignals(context.Background(), os.Exit)
	code := run(ctx, surroundings{
		args: os.Args[1:], lookupEnv: os.LookupEnv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	})
	stop() // before the exit, which runs no deferred calls
	os.Exit(code)
}
