package registry

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Scopes is a list that a branch keeps at a tag: in which scopes (jobs of a
// matrix, platforms) it has caches, for others to find. It is asked for like
// any tag, where a list of all tags may be forbidden, long or unordered.
type Scopes struct {
	Branch string
	Names  []string // in the order in which they came, each once
}

// MaxScopes bounds the list. The oldest go first.
const MaxScopes = 32

const (
	artifactTypeScopes = "application/vnd.docker-build-remote-cache.scopes.v1"
	annotationScopes   = annotationPrefix + "scopes"
)

// Add is the list with a scope more.
func (s Scopes) Add(scope string) Scopes {
	if slices.Contains(s.Names, scope) {
		return s
	}
	names := append(slices.Clone(s.Names), scope)
	return Scopes{Branch: s.Branch, Names: names[max(0, len(names)-MaxScopes):]}
}

// Encode writes the list as an artifact without content (OCI image
// specification 1.1, "Guidelines for Artifact Usage"). The blob it refers to,
// EmptyBlob, must be in the repository.
func (s Scopes) Encode() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("encode list of scopes: %w", err)
	}
	names, err := json.Marshal(s.Names)
	if err == nil {
		var raw []byte
		raw, err = json.Marshal(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			ArtifactType: artifactTypeScopes, Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{ocispec.DescriptorEmptyJSON},
			Annotations: map[string]string{annotationScopes: string(names), annotationBranch: s.Branch},
		})
		if err == nil {
			return raw, nil
		}
	}
	return nil, fmt.Errorf("encode list of scopes: %w", err)
}

// EmptyBlob is the content of ocispec.DescriptorEmptyJSON.
var EmptyBlob = ocispec.DescriptorEmptyJSON.Data

// DecodeScopes reads a list; what is none is ErrInvalid.
func DecodeScopes(raw []byte) (Scopes, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return Scopes{}, invalidf("the list of scopes is not valid: %v", err)
	}
	if m.ArtifactType != artifactTypeScopes {
		return Scopes{}, invalidf("the artifact %q is no list of scopes", m.ArtifactType)
	}
	s := Scopes{Branch: m.Annotations[annotationBranch]}
	if err := json.Unmarshal([]byte(m.Annotations[annotationScopes]), &s.Names); err != nil {
		return Scopes{}, invalidf("the list of scopes is not valid: %v", err)
	}
	return s, s.validate()
}

func (s Scopes) validate() error {
	if len(s.Names) > MaxScopes {
		return invalidf("%d scopes, more than %d", len(s.Names), MaxScopes)
	}
	for i, name := range s.Names {
		if name == "" || slices.Contains(s.Names[:i], name) {
			return invalidf("the scope %q is empty or listed twice", name)
		}
		if err := (Annotations{Level: LevelUnprefixed, Branch: s.Branch, Scope: name}).Validate(); err != nil {
			return err
		}
	}
	return nil
}
