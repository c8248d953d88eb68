// Package bench compares this tool with what people use today, side by side on
// one project: the article's recipe on Docker's classic builder, and docker
// buildx build with its registry cache. Every build is a new CI runner's: the
// engine is empty, the registry is not.
//
//	make bench                              # about half an hour
//	make bench BENCH='-n 1 -peers tool'     # only this tool, once
//	make bench BENCH=-write                 # and write docs/benchmarks.md
//
// Times are wall-clock times of the whole command, bytes are what passes between
// engines and registry. Nothing here fails for being slow: goals are printed as
// met or not met.
package bench
