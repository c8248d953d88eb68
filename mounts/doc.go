// Package mounts keeps what a cache mount (RUN --mount=type=cache) holds as an
// artifact in a registry, and fills an empty mount from it. It knows no engine:
// Serve is the side that stands in the mount, in a container of the build;
// Save and Restore are the other end of a byte stream to it, where the
// registry is.
//
// A State is one moment of a mount, an OCI manifest of two kinds of blobs:
//
//   - A tree lists what is in the mount, name by name, with all that is to be
//     restored but the contents. The first tree of a State is whole, each
//     further one lists what changed and what is gone (tree.go).
//   - A pack holds contents of files, one after the other, without names
//     (pack.go). Files of the same content share one, and a file that was
//     renamed or touched needs none.
//
// Both are zstd. Not tar: no dialect of it that archive/tar writes knows holes,
// deletions and files of which only the owner changed; and since the whole
// tree is known and checked before anything is written, filling a mount is the
// making of new files in new directories, with no link among them until all
// files are written.
//
// What comes from a registry is untrusted: it is parsed strictly, its sizes
// are bounded by Limits, and whatever it says, nothing is written outside the
// mount (fill_linux.go). A State that is damaged is ErrDamaged and the mount
// stays empty.
//
// No API stability is promised: the product is the command.
package mounts
