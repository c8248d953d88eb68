package engine

import (
	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/session"
	sessioncontent "github.com/moby/buildkit/session/content"
	"github.com/opencontainers/go-digest"
)

// LocalImport is a cache that the build's session serves, to be put into
// Request.Imports: its manifest's digest in a store of Request.Stores. Engines
// that know no such import say so in the progress and build without.
func LocalImport(store string, manifest digest.Digest) CacheSpec {
	return CacheSpec{Type: "local", Attributes: map[string]string{"src": store, "digest": manifest.String()}}
}

// servedStores offers the stores to the daemon by the names under which its
// importer of type local asks for them (contentStoreIDPrefix in
// cache/remotecache/local). BuildKit's client does the same for imports that
// the frontend gets, and would refuse a second offer; ours come with each
// solve of the gateway, of which it knows nothing.
func servedStores(stores map[string]content.Store) []session.Attachable {
	if len(stores) == 0 {
		return nil
	}
	byID := map[string]content.Store{}
	for name, store := range stores {
		byID["local:"+name] = store
	}
	return []session.Attachable{sessioncontent.NewAttachable(byID)}
}
