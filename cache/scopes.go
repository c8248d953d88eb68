package cache

import (
	"context"
	"errors"
	"slices"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// announceScope sees to it that the branch's list of scopes has this build's,
// for siblings to find. It is written by the first build of a scope only.
// Several of those may write at once, and a registry knows no
// compare-and-swap: the list is read again after it was written.
func announceScope(ctx context.Context, rw ReadWriter, p Plan, f Found) error {
	if p.Scope == "" || p.Owner().Branch == "" || slices.Contains(f.Scopes.Names, utf8Text(p.Scope)) {
		return nil
	}
	if _, err := rw.PutBlob(ctx, p.Repository, registry.EmptyBlob, ocispec.MediaTypeEmptyJSON); err != nil {
		return err
	}
	tag := p.Owner().ScopesTag()
	for range promotions {
		list, err := readScopes(ctx, rw, p)
		if err != nil || slices.Contains(list.Names, utf8Text(p.Scope)) {
			return err
		}
		raw, err := list.Add(utf8Text(p.Scope)).Encode()
		if err != nil {
			return err
		}
		if _, err := rw.PutManifest(ctx, p.Repository, tag, raw, ocispec.MediaTypeImageManifest); err != nil {
			return err
		}
	}
	return nil // others go on writing; the next build of this scope adds it
}

// readScopes reads the branch's list; what is there and no list is replaced.
func readScopes(ctx context.Context, r Reader, p Plan) (registry.Scopes, error) {
	empty := registry.Scopes{Branch: utf8Text(p.Owner().Branch)}
	raw, _, err := r.Manifest(ctx, p.Repository, p.Owner().ScopesTag())
	if errors.Is(err, registry.ErrNotFound) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	list, err := registry.DecodeScopes(raw)
	if err != nil || list.Branch != empty.Branch {
		return empty, nil
	}
	return list, nil
}
