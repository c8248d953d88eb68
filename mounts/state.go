package mounts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of a State's manifest and of its blobs.
const (
	ArtifactType  = "application/vnd.docker-build-remote-cache.mount.v1"
	MediaTypeTree = "application/vnd.docker-build-remote-cache.mount.tree.v1+zstd"
	MediaTypePack = "application/vnd.docker-build-remote-cache.mount.pack.v1+zstd"
)

const (
	annotationPrefix   = "io.github.docker-build-remote-cache.mount."
	annotationEntries  = annotationPrefix + "entries"
	annotationBytes    = annotationPrefix + "bytes"
	annotationPackID   = annotationPrefix + "pack"
	annotationContents = annotationPrefix + "contents"
)

// State is one moment of a mount. The zero State is of no mount.
type State struct {
	// Trees list what is in the mount: the first all of it, each further one
	// what changed since the one before.
	Trees []ocispec.Descriptor
	// Packs hold the contents of the files, in the order of their IDs.
	Packs []Pack
	// Entries is how much the mount holds, directories and links included;
	// Bytes is the sum of the sizes of its files without their holes.
	Entries int
	Bytes   int64
}

// Pack is a blob of contents.
type Pack struct {
	Blob ocispec.Descriptor
	// ID is how trees refer to the pack; within a State it is unique.
	ID int
	// Bytes is the size of all contents before compression, Contents is how
	// many there are. Not all of them need to be in use.
	Bytes    int64
	Contents int
}

func (s State) blobs() []ocispec.Descriptor {
	blobs := slices.Clone(s.Trees)
	for _, pack := range s.Packs {
		blobs = append(blobs, pack.Blob)
	}
	return blobs
}

// Manifest encodes the state as an OCI image manifest of ArtifactType, with
// further annotations of the caller's. Equal states give equal bytes. The
// manifest refers to ocispec.DescriptorEmptyJSON, which Save puts among the
// Blobs.
func (s State) Manifest(annotations map[string]string) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("encode mount state: %w", err)
	}
	manifest := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       ocispec.DescriptorEmptyJSON,
		Annotations:  map[string]string{},
	}
	maps.Copy(manifest.Annotations, annotations)
	manifest.Annotations[annotationEntries] = strconv.Itoa(s.Entries)
	manifest.Annotations[annotationBytes] = strconv.FormatInt(s.Bytes, 10)
	for _, tree := range s.Trees {
		manifest.Layers = append(manifest.Layers, bare(tree))
	}
	for _, pack := range s.Packs {
		layer := bare(pack.Blob)
		layer.Annotations = map[string]string{
			annotationPackID:   strconv.Itoa(pack.ID),
			annotationBytes:    strconv.FormatInt(pack.Bytes, 10),
			annotationContents: strconv.Itoa(pack.Contents),
		}
		manifest.Layers = append(manifest.Layers, layer)
	}
	return json.Marshal(manifest)
}

// bare is a descriptor without what a State does not keep.
func bare(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// ParseState reads what Manifest wrote, and the annotations with it. Whatever
// else there may be in a registry is ErrDamaged.
func ParseState(manifest []byte) (State, map[string]string, error) {
	var m ocispec.Manifest
	decoder := json.NewDecoder(bytes.NewReader(manifest))
	if err := decoder.Decode(&m); err != nil {
		return State{}, nil, damagedf("the manifest is not valid JSON: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return State{}, nil, damagedf("something follows the manifest")
	}
	if m.MediaType != ocispec.MediaTypeImageManifest || m.ArtifactType != ArtifactType {
		return State{}, nil, damagedf("the manifest is of type %q, not %q", m.ArtifactType, ArtifactType)
	}
	var s State
	var err error
	number := func(annotations map[string]string, key string, largest int64) int64 {
		text := annotations[key]
		n, parseErr := strconv.ParseInt(text, 10, 64)
		if err == nil && (parseErr != nil || n < 0 || n > largest || strconv.FormatInt(n, 10) != text) {
			err = damagedf("the annotation %s is %q", key, text)
		}
		return n
	}
	s.Entries = int(number(m.Annotations, annotationEntries, maxEntries))
	s.Bytes = number(m.Annotations, annotationBytes, maxBytes)
	for _, layer := range m.Layers {
		switch layer.MediaType {
		case MediaTypeTree:
			s.Trees = append(s.Trees, bare(layer))
		case MediaTypePack:
			s.Packs = append(s.Packs, Pack{
				Blob:     bare(layer),
				ID:       int(number(layer.Annotations, annotationPackID, maxPackID)),
				Bytes:    number(layer.Annotations, annotationBytes, maxBytes),
				Contents: int(number(layer.Annotations, annotationContents, maxEntries)),
			})
		default:
			return State{}, nil, damagedf("a layer is of type %q", layer.MediaType)
		}
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return State{}, nil, err
	}
	return s, m.Annotations, nil
}

// What no State exceeds, whatever the Limits.
const (
	maxEntries = 10_000_000
	maxBytes   = 1 << 40
	maxPackID  = 1 << 30
	maxTrees   = 64
	maxPacks   = 64
)

func (s State) check() error {
	if len(s.Trees) == 0 || len(s.Trees) > maxTrees || len(s.Packs) > maxPacks {
		return damagedf("a state of %d trees and %d packs", len(s.Trees), len(s.Packs))
	}
	for _, blob := range s.blobs() {
		if err := blob.Digest.Validate(); err != nil {
			return damagedf("the digest %q: %v", blob.Digest, err)
		}
		if blob.Size <= 0 || blob.Size > maxBytes {
			return damagedf("the blob %s has %d bytes", blob.Digest, blob.Size)
		}
	}
	for i, pack := range s.Packs {
		if pack.ID <= 0 || i > 0 && pack.ID <= s.Packs[i-1].ID {
			return damagedf("the pack %d is out of order", pack.ID)
		}
		if pack.Bytes < 0 || pack.Contents <= 0 {
			return damagedf("the pack %d has %d contents of %d bytes", pack.ID, pack.Contents, pack.Bytes)
		}
	}
	if s.Entries < 0 || s.Bytes < 0 {
		return damagedf("a state of %d entries, %d bytes", s.Entries, s.Bytes)
	}
	return nil
}
