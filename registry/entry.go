package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Entry is what this tool keeps at a tag: an OCI image index of a runnable
// image and of the BuildKit cache it was built with. One PUT switches both,
// and a registry's garbage collection spares what an index refers to.
type Entry struct {
	// Images are the runnable manifests, each with its platform. There may be
	// none: then the tag holds a cache only.
	Images []ocispec.Descriptor
	// Cache is the BuildKit cache manifest, to be imported by its digest:
	// BuildKit does not look for it inside an index. Nil where the cache is
	// inline in the images, or where there is none.
	Cache *ocispec.Descriptor
	// Others are children this version knows nothing of, such as
	// attestations.
	Others []ocispec.Descriptor
	// Annotations say whose entry this is.
	Annotations Annotations
}

// Annotations say which identity keeps an Entry and how it came to be. Texts
// are valid UTF-8 of at most MaxAnnotation bytes, without control characters.
type Annotations struct {
	Level       string    // LevelBranch or LevelUnprefixed
	Branch      string    // which built it; may be empty for LevelUnprefixed
	Stage       string    // name or index
	Final       bool      // the stage is the one the image is made of
	Mount       string    // which cache mount, empty for an Entry
	Scope       string    // platform or matrix job, empty for none
	Trust       string    // of the build that wrote it; how is the caller's matter
	Times       string    // of the steps; how is the caller's matter
	Conditions  string    // of the build that wrote it; how is the caller's matter
	ToolVersion string    // of this program
	Created     time.Time // to the second; may be zero
}

// The levels of Annotations.
const (
	LevelBranch     = "branch"
	LevelUnprefixed = "unprefixed"
)

// MaxAnnotation is the length of the longest annotation, in bytes. It is the
// length of a path on Linux, which bounds the names of git's branches.
const MaxAnnotation = 4096

// EntrySchema is the version of the form of an Entry. Readers refuse another.
const EntrySchema = 1

// The annotations of an index that is an Entry, and of its cache child.
const (
	annotationPrefix     = "io.github.docker-build-remote-cache."
	annotationConditions = annotationPrefix + "conditions"
	annotationSchema     = annotationPrefix + "schema"
	annotationLevel      = annotationPrefix + "level"
	annotationBranch     = annotationPrefix + "branch"
	annotationStage      = annotationPrefix + "stage"
	annotationFinal      = annotationPrefix + "final"
	annotationMount      = annotationPrefix + "mount"
	annotationScope      = annotationPrefix + "scope"
	annotationTrust      = annotationPrefix + "trust"
	annotationTimes      = annotationPrefix + "times"
	annotationVersion    = annotationPrefix + "tool-version"
	annotationKind       = annotationPrefix + "kind"

	kindCache = "cache"
)

// SchemaError is an Entry written in a form this version does not know, most
// likely by a newer one. It is ours nevertheless: errors.Is(err, ErrInvalid),
// and not to be taken for a foreign image.
type SchemaError struct{ Schema string }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("cache of schema %q, this version reads %d", e.Schema, EntrySchema)
}

// Is makes it an ErrInvalid.
func (e *SchemaError) Is(target error) bool { return target == ErrInvalid }

// Encode writes the entry as an OCI image index; equal entries give equal
// bytes. The cache child gets no platform: docker and containerd put a child
// without one behind every child that matches, so that docker run of the tag
// runs the image (Docker 20.10 tried, filterManifests and LimitManifests
// read).
func (e Entry) Encode() ([]byte, error) {
	if err := e.Annotations.Validate(); err != nil {
		return nil, fmt.Errorf("encode cache entry: %w", err)
	}
	index := ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageIndex,
		Manifests:   slices.Concat(e.Images, e.Others),
		Annotations: e.Annotations.encode(),
	}
	if e.Cache != nil {
		index.Manifests = append(index.Manifests, cacheChild(*e.Cache))
	}
	for _, child := range index.Manifests {
		if err := checkDescriptor(child); err != nil {
			return nil, fmt.Errorf("encode cache entry: %w", err)
		}
	}
	for _, image := range e.Images {
		if !runnable(image) {
			return nil, fmt.Errorf("encode cache entry: %w", invalidf("the image %s has no platform", image.Digest))
		}
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("encode cache entry: %w", err)
	}
	if len(raw) > MaxManifestSize {
		return nil, fmt.Errorf("encode cache entry: %w", invalidf("it is larger than %d bytes", MaxManifestSize))
	}
	return raw, nil
}

func cacheChild(cache ocispec.Descriptor) ocispec.Descriptor {
	annotations := map[string]string{annotationKind: kindCache}
	for key, value := range cache.Annotations {
		if key != annotationKind {
			annotations[key] = value
		}
	}
	cache.Annotations = annotations
	cache.Platform = nil
	return cache
}

// decodeEntry reads an index whose annotations say that it is an Entry.
func decodeEntry(index ocispec.Index) (*Entry, error) {
	e := new(Entry)
	var err error
	if e.Annotations, err = ParseAnnotations(index.Annotations); err != nil {
		return nil, err
	}
	for _, child := range index.Manifests {
		switch {
		case child.Annotations[annotationKind] == kindCache:
			if e.Cache != nil {
				return nil, invalidf("the entry has two caches")
			}
			e.Cache = &child
		case runnable(child):
			e.Images = append(e.Images, child)
		default:
			e.Others = append(e.Others, child)
		}
	}
	return e, nil
}

// runnable reports whether a child of an index is an image for a platform,
// and not an attestation, whose platform is unknown/unknown.
func runnable(child ocispec.Descriptor) bool {
	return (child.MediaType == ocispec.MediaTypeImageManifest || child.MediaType == mediaTypeDockerManifest) &&
		child.Platform != nil && child.Platform.OS != "unknown" && child.Platform.OS != ""
}

// Map is how annotations stand in a manifest.
func (a Annotations) Map() map[string]string { return a.encode() }

// ParseAnnotations reads what Map wrote. A *SchemaError, or what else is not
// valid, is ErrInvalid.
func ParseAnnotations(encoded map[string]string) (Annotations, error) {
	var a Annotations
	if schema := encoded[annotationSchema]; schema != strconv.Itoa(EntrySchema) {
		return a, &SchemaError{Schema: schema}
	}
	return a, a.decode(encoded)
}

func (a Annotations) encode() map[string]string {
	encoded := map[string]string{
		annotationSchema: strconv.Itoa(EntrySchema),
		annotationLevel:  a.Level,
		annotationStage:  a.Stage,
		annotationFinal:  strconv.FormatBool(a.Final),
	}
	optional := func(key, value string) {
		if value != "" {
			encoded[key] = value
		}
	}
	optional(annotationBranch, a.Branch)
	optional(annotationMount, a.Mount)
	optional(annotationScope, a.Scope)
	optional(annotationTrust, a.Trust)
	optional(annotationTimes, a.Times)
	optional(annotationConditions, a.Conditions)
	optional(annotationVersion, a.ToolVersion)
	if !a.Created.IsZero() {
		encoded[ocispec.AnnotationCreated] = a.Created.UTC().Format(time.RFC3339)
	}
	return encoded
}

func (a *Annotations) decode(encoded map[string]string) error {
	*a = Annotations{
		Level:       encoded[annotationLevel],
		Branch:      encoded[annotationBranch],
		Stage:       encoded[annotationStage],
		Mount:       encoded[annotationMount],
		Scope:       encoded[annotationScope],
		Trust:       encoded[annotationTrust],
		Times:       encoded[annotationTimes],
		Conditions:  encoded[annotationConditions],
		ToolVersion: encoded[annotationVersion],
	}
	switch final := encoded[annotationFinal]; final {
	case "true", "false":
		a.Final = final == "true"
	default:
		return invalidf("annotation %s is %q", annotationFinal, final)
	}
	if created := encoded[ocispec.AnnotationCreated]; created != "" {
		at, err := time.Parse(time.RFC3339, created)
		if err != nil {
			return invalidf("annotation %s: %v", ocispec.AnnotationCreated, err)
		}
		a.Created = at.UTC().Truncate(time.Second)
	}
	return a.Validate()
}

// Validate reports as ErrInvalid what an Entry cannot hold.
func (a Annotations) Validate() error {
	switch {
	case a.Level != LevelBranch && a.Level != LevelUnprefixed:
		return invalidf("the level %q is neither %s nor %s", a.Level, LevelBranch, LevelUnprefixed)
	case a.Level == LevelBranch && a.Branch == "":
		return invalidf("the branch is missing")
	case !a.Created.IsZero() && (a.Created.UTC().Year() < 0 || a.Created.UTC().Year() > 9999):
		return invalidf("the time %v has no RFC 3339 form", a.Created)
	}
	for _, text := range []string{a.Branch, a.Stage, a.Mount, a.Scope, a.Trust, a.Times, a.Conditions, a.ToolVersion} {
		switch {
		case len(text) > MaxAnnotation:
			return invalidf("an annotation has %d bytes, more than %d", len(text), MaxAnnotation)
		case !utf8.ValidString(text):
			return invalidf("the annotation %q is not UTF-8", text)
		case strings.ContainsFunc(text, unicode.IsControl):
			// It would reach a terminal, or the log of a CI system.
			return invalidf("the annotation %q has a control character", text)
		}
	}
	return nil
}

func checkDescriptor(d ocispec.Descriptor) error {
	switch {
	case d.MediaType == "":
		return invalidf("the child %s has no media type", d.Digest)
	case d.Size < 0:
		return invalidf("the child %s has the size %d", d.Digest, d.Size)
	}
	if err := d.Digest.Validate(); err != nil {
		return invalidf("child: %v: %q", err, d.Digest)
	}
	return nil
}
