package merge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxInput bounds, in bytes, each document that is read. It is four times
// what BuildKit imports: a cache that grew past BuildKit's limit is useless
// by itself, but fits once it is merged and trimmed.
const maxInput = 4 << 20

// Media types of Docker images, which the importer takes as their OCI
// counterparts (DetectManifestBlobMediaType in BuildKit's util/imageutil).
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerImageConfig  = "application/vnd.docker.container.image.v1+json"
)

// ErrNoCache is returned for an image or artifact that holds no cache.
var ErrNoCache = errors.New("no cache in manifest")

// Manifest is a cache manifest, or that of an image which may hold an inline
// cache.
type Manifest struct {
	// Digest of the manifest.
	Digest digest.Digest
	// Config is the blob to fetch and hand to Lineage.
	Config ocispec.Descriptor

	layers     []ocispec.Descriptor
	importable bool // BuildKit would read it
}

// ParseManifest reads what BuildKit's registry cache exporter writes (an OCI
// image manifest or, with image-manifest=false, an index) or the manifest of
// an image. For an index of images the error is ErrNoCache: their caches are
// one lineage each, so choose an image first.
func ParseManifest(raw []byte) (*Manifest, error) {
	m, err := parseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("parse cache manifest: %w", err)
	}
	m.Digest = digest.FromBytes(raw)
	m.importable = len(raw) <= importLimit
	for _, d := range append(m.layers[:len(m.layers):len(m.layers)], m.Config) {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("parse cache manifest: digest %q: %w", d.Digest, err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("parse cache manifest: blob %s: negative size", d.Digest)
		}
	}
	return m, nil
}

func parseManifest(raw []byte) (*Manifest, error) {
	if len(raw) > maxInput {
		return nil, fmt.Errorf("%d bytes, more than %d", len(raw), maxInput)
	}
	var m struct {
		MediaType string                `json:"mediaType"`
		Config    *ocispec.Descriptor   `json:"config"`
		Layers    []ocispec.Descriptor  `json:"layers"`
		Manifests *[]ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	switch m.MediaType {
	case ocispec.MediaTypeImageManifest, dockerManifest, ocispec.MediaTypeImageIndex, dockerManifestList, "":
	default:
		return nil, fmt.Errorf("media type %q: %w", m.MediaType, ErrNoCache)
	}
	isIndex := m.MediaType == ocispec.MediaTypeImageIndex || m.MediaType == dockerManifestList ||
		m.MediaType == "" && m.Manifests != nil
	hasImage := m.Config != nil || m.Layers != nil
	switch {
	case isIndex && hasImage, !isIndex && m.Manifests != nil:
		return nil, errors.New("both manifest and index")
	case isIndex && m.Manifests == nil:
		return nil, errors.New("index without manifests")
	case isIndex:
		return fromIndex(*m.Manifests)
	case m.Config == nil:
		return nil, errors.New("manifest without config")
	}
	return &Manifest{Config: *m.Config, layers: m.Layers}, nil
}

// fromIndex reads the index form of a cache: its children are the layers and
// one cache config.
func fromIndex(children []ocispec.Descriptor) (*Manifest, error) {
	m := &Manifest{}
	for _, d := range children {
		if d.MediaType != cacheimporttypes.CacheConfigMediaTypeV0 {
			m.layers = append(m.layers, d)
			continue
		}
		if m.Config.Digest != "" {
			return nil, errors.New("index with several cache configs")
		}
		m.Config = d
	}
	if m.Config.Digest == "" {
		return nil, fmt.Errorf("index without cache config: %w", ErrNoCache)
	}
	return m, nil
}

// Lineage reads the cache whose config blob has the content given. The name
// is for messages, such as the ref the manifest was found at. The error is
// ErrNoCache for an image without inline cache.
//
// Unlike BuildKit it refuses a config with unknown fields: their meaning
// would be lost in the merge.
func (m *Manifest) Lineage(name string, config []byte) (*Lineage, error) {
	if len(config) > maxInput {
		return nil, fmt.Errorf("parse cache config of %s: %d bytes, more than %d", name, len(config), maxInput)
	}
	if m.Config.Digest.Algorithm().FromBytes(config) != m.Config.Digest {
		return nil, fmt.Errorf("parse cache config of %s: content is not that of %s", name, m.Config.Digest)
	}
	l, err := m.parseConfig(config)
	if err != nil {
		return nil, fmt.Errorf("parse cache config of %s: %w", name, err)
	}
	l.Name, l.Digest = name, m.Digest
	return l, nil
}

func (m *Manifest) parseConfig(config []byte) (*Lineage, error) {
	switch m.Config.MediaType {
	case cacheimporttypes.CacheConfigMediaTypeV0:
		var c cacheimporttypes.CacheConfig
		if err := decodeStrict(config, &c); err != nil {
			return nil, err
		}
		l, err := newLineage(c, m.layers)
		if err != nil {
			return nil, err
		}
		l.importable = m.importable && len(config) <= importLimit
		return l, nil
	case ocispec.MediaTypeImageConfig, dockerImageConfig:
		return m.parseImageConfig(config)
	default:
		return nil, fmt.Errorf("media type %q: %w", m.Config.MediaType, ErrNoCache)
	}
}

func decodeStrict(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the document")
	}
	return nil
}
