// Package registry names images and caches in a container registry, and asks
// the registry about them.
//
// Names: ParseImage and ParseRepository turn what people type into an Image
// or a Repository, normalised as docker does; TagText turns any text into
// something a tag may hold.
//
// Questions: a Client reads and writes manifests and small blobs over the OCI
// distribution API, on go-containerregistry, with bounded retries underneath.
// Its errors wrap one of ErrNotFound, ErrUnauthorized, ErrUnavailable,
// ErrUnsupported, ErrRejected and ErrInvalid, so that a caller can tell a
// cache miss from a registry that is down.
//
// Content: an Entry is what this tool keeps at a tag, an OCI index that is
// both a runnable image and a cache; Classify tells an Entry from the other
// things that may stand there.
//
// Layers of images never pass through here: the engines move those themselves.
// Blobs is for what else is large.
//
// No API stability is promised: the product is the command.
package registry
