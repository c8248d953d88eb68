// Package engine drives the container build engine that is there: a BuildKit
// daemon, the BuildKit inside a Docker Engine, or the classic builder.
//
// A build is started from plain data (Request) and observed as plain data
// (Step, Outcome). While its results are still held by the engine, what it
// completed can be exported as a cache or pushed as images, whatever the
// outcome: that is what makes rescue and checkpoints possible.
//
// No API stability is promised: the product is the command.
package engine
