// Package merge unites BuildKit caches that several jobs exported into one
// cache manifest that BuildKit imports by digest as its only cache. It is
// pure: documents in, documents out, the same bytes for the same input.
//
// # Terms
//
// A cache config (media type application/vnd.buildkit.cacheconfig.v0, see
// cache/remotecache/v1/types/doc.go in BuildKit) is a graph of records. A
// record is a cache key: the digest of an operation and, for each of the
// operation's inputs, links to the records the input may come from. A record
// may carry a result, a chain of layers. What one job exported is a lineage.
//
// There are two sorts of links (solver/edge.go, processDepSlowCacheReq). A
// definition link says how the input is built, and carries the selector of
// the files that are read from it. A content key is a link without selector
// to a record without inputs whose digest is that of those files. The link
// from a RUN to the source image of its stage looks the same and is treated
// the same: it is a key of what the image contains.
//
// # Rules
//
//  1. Records are one if BuildKit would unify them on import: same digest and,
//     at every input, one link in common (CacheChains.Add in
//     cache/remotecache/v1/chains.go), to the least fixpoint.
//  2. A record has one result, from the first lineage that has one; within a
//     lineage the newest, as in CacheChains.Marshal. BuildKit, given two,
//     takes the newest whoever wrote it, and at equal times either
//     (compareCacheRecord in solver/exporter.go).
//  3. Members of a record whose result was not taken add no content key, and
//     no link at all at an input where a content key of theirs is not the
//     owner's: their content must not lead to a result made from other
//     content, or a file that one job made with its secret is served to
//     another. Where nobody has a result the first lineage owns the record.
//     The dependants of a losing record stay, so a step built on the loser's
//     result may follow the winner's: BuildKit holds results of equal keys for
//     interchangeable. Stats.Conflicts counts such results.
//  4. Links that close a loop are cut ("invalid looping record" in parse.go
//     fails the whole import): between records that a loop reaches, only the
//     links of the record's first member stay. A record whose input has no
//     link left is dropped ("invalid empty input").
//  5. Results are dropped if a blob of their chain is missing from the
//     registry, which would fail the build, or from the manifest of their
//     lineage, which makes BuildKit ignore them (getRemoteChain in parse.go).
//  6. Config and manifest stay within the 1 MiB that BuildKit's importer reads
//     (readBlob in cache/remotecache/import.go; above it the build runs without
//     cache). See Options.Keep for what goes first.
//
// Merge the exports of jobs, never earlier merges: an export holds what its
// build reached, a merge of merges only grows.
//
// No API stability is promised: the product is the command.
package merge
