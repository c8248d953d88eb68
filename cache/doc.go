// Package cache decides where the cache of each stage is looked for and kept,
// finds it, and saves it again.
//
// A stage's cache lives at a tag of the cache repository. A slot is the
// identity behind such a tag: which branch, which stage, which scope. A Plan
// is plain data that names the slots to read and to write; Look asks the
// registry what the slots hold and composes the one view that a build
// imports; Save writes what the build completed.
//
// Losing the cache never loses the build: what cannot be read is a miss, what
// cannot be written is a warning, and both are said.
//
// No API stability is promised: the product is the command.
package cache
