package engine

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/moby/buildkit/client/ociindex"
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

// DirectoryImport turns an import of type local, as people write it, into one
// from a store that is to be served under its directory's name. The directory
// is an OCI layout, as type=local writes it; digest, or else tag, says which
// cache of it (docs.docker.com/build/cache/backends/local).
func DirectoryImport(spec CacheSpec) (CacheSpec, content.Store, error) {
	dir, err := filepath.Abs(spec.Attributes["src"])
	if err == nil {
		// The store would make the directory.
		_, err = os.Stat(filepath.Join(dir, "index.json"))
	}
	if err != nil {
		return spec, nil, fmt.Errorf("read local cache: %w", err)
	}
	wanted := digest.Digest(spec.Attributes["digest"])
	if wanted == "" {
		tag := cmp.Or(spec.Attributes["tag"], "latest")
		held, err := ociindex.NewStoreIndex(dir).Get(tag)
		if err != nil {
			return spec, nil, fmt.Errorf("read local cache: %w", err)
		}
		if held == nil {
			return spec, nil, fmt.Errorf("read local cache: %s holds none that is tagged %s", dir, tag)
		}
		wanted = held.Digest
	}
	if err := wanted.Validate(); err != nil {
		return spec, nil, fmt.Errorf("read local cache: %w", err)
	}
	store, err := local.NewStore(dir)
	if err != nil {
		return spec, nil, fmt.Errorf("read local cache: %w", err)
	}
	return LocalImport(dir, wanted), store, nil
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
