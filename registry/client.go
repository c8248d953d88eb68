package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifestSize is the longest manifest that is read or written, in bytes:
// the OCI distribution specification 1.1 asks registries to take 4 MiB and
// lets them refuse more.
const MaxManifestSize = 4 << 20

// The media types of Docker's manifests, which the OCI's descend from.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Options configure a Client. The zero Options are usable: anonymous, with
// the defaults named below.
type Options struct {
	// Keychain finds credentials; nil is anonymous. authn.DefaultKeychain
	// reads those of docker login.
	Keychain authn.Keychain
	// UserAgent names the program, such as "docker-build-remote-cache/1.2".
	UserAgent string
	// Transport sends the requests; nil is a transport of its own, with the
	// proxies of the environment.
	Transport http.RoundTripper
	// InsecureHosts are the registries, as Repository.Host, that may be
	// spoken to over plain http. Those on the loopback interface and on
	// private addresses always may.
	InsecureHosts []string

	// Timeout bounds one operation with all its attempts. Default 2 minutes.
	Timeout time.Duration
	// Attempts is how often a request is sent at most. Default 5.
	Attempts int
	// FirstWait is the pause before the second attempt; it doubles with each.
	// Default 500 ms.
	FirstWait time.Duration
	// LongestWait is the longest pause that is made between two attempts; a
	// registry that asks for more is ErrUnavailable. Default 30 s.
	LongestWait time.Duration
	// OnWait, if set, is told of every pause before it is made, concurrently
	// where operations are.
	OnWait func(Wait)
}

// Client reads and writes manifests and small blobs. Every failure is an
// *Error. It shows its credentials to a registry once per repository and
// purpose, and may be used concurrently.
type Client struct {
	sessions *sessions
	insecure []string
	timeout  time.Duration
}

// NewClient makes a Client; it sends nothing.
func NewClient(o Options) *Client {
	sending := &retrying{
		base:     o.Transport,
		attempts: cmp.Or(o.Attempts, 5),
		wait:     cmp.Or(o.FirstWait, 500*time.Millisecond),
		longest:  cmp.Or(o.LongestWait, 30*time.Second),
		onWait:   o.OnWait,
	}
	if sending.base == nil {
		sending.base = newTransport()
	}
	timeout := cmp.Or(o.Timeout, 2*time.Minute)
	return &Client{
		sessions: &sessions{transport: sending, userAgent: o.UserAgent, keychain: o.Keychain, timeout: timeout},
		insecure: slices.Clone(o.InsecureHosts),
		timeout:  timeout,
	}
}

func newTransport() http.RoundTripper {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = 30 * time.Second
	return t
}

// Head asks what a tag or digest of the repository refers to, without reading
// it. Where the registry cannot answer HEAD, the manifest is read.
func (c *Client) Head(ctx context.Context, repository Repository, tagOrDigest string) (ocispec.Descriptor, error) {
	var found ocispec.Descriptor
	q := question{op: "head", repository: repository, tagOrDigest: tagOrDigest, scope: transport.PullScope}
	err := c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		head, err := s.puller.Head(ctx, ref)
		if err == nil {
			found = descriptor(*head)
			return nil
		}
		// Without Docker-Content-Digest, Content-Type or Content-Length the
		// answer is of no use either.
		if kind := kindOf(repository, err); kind != ErrUnsupported && kind != ErrInvalid {
			return err
		}
		_, found, err = readManifest(ctx, s, ref)
		return err
	})
	return found, err
}

// Manifest reads what a tag or digest of the repository refers to: an image
// index or manifest in OCI's or Docker's form. It is of at most
// MaxManifestSize bytes, and its digest is verified.
func (c *Client) Manifest(ctx context.Context, repository Repository, tagOrDigest string) ([]byte, ocispec.Descriptor, error) {
	var raw []byte
	var found ocispec.Descriptor
	q := question{op: "get manifest", repository: repository, tagOrDigest: tagOrDigest, scope: transport.PullScope}
	err := c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) (err error) {
		raw, found, err = readManifest(ctx, s, ref)
		return err
	})
	return raw, found, err
}

func readManifest(ctx context.Context, s *session, ref name.Reference) ([]byte, ocispec.Descriptor, error) {
	got, err := s.puller.Get(ctx, ref)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	found := descriptor(got.Descriptor)
	found.MediaType, err = manifestType(got.Manifest, string(got.MediaType))
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	return got.Manifest, found, nil
}

func descriptor(d v1.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}
}

// manifestType is the media type of a manifest, by its header, and where that
// says nothing (some proxies answer application/json), by its own field.
func manifestType(raw []byte, header string) (string, error) {
	var own struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(raw, &own); err != nil {
		return "", invalidf("the manifest is not valid JSON: %v", err)
	}
	declared, _, err := mime.ParseMediaType(header)
	if err != nil || !isManifest(declared) {
		declared = own.MediaType
	}
	switch {
	case !isManifest(declared):
		return "", invalidf("the media type %q is not that of an image", cmp.Or(declared, header))
	case own.MediaType != "" && own.MediaType != declared:
		return "", invalidf("the manifest calls itself %q, the registry calls it %q", own.MediaType, declared)
	}
	return declared, nil
}

func isManifest(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, mediaTypeDockerList, mediaTypeDockerManifest:
		return true
	}
	return false
}

// Blob reads a blob of at most maxSize bytes and verifies its digest.
func (c *Client) Blob(ctx context.Context, repository Repository, d digest.Digest, maxSize int64) ([]byte, error) {
	var blob []byte
	q := question{op: "get blob", repository: repository, tagOrDigest: d.String(), scope: transport.PullScope}
	err := c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		layer, err := s.puller.Layer(context.WithValue(ctx, bodyLimit{}, maxSize), ref.Context().Digest(d.String()))
		if err != nil {
			return err
		}
		reader, err := layer.Compressed()
		if err != nil {
			return err
		}
		defer reader.Close()
		blob, err = io.ReadAll(io.LimitReader(reader, maxSize+1))
		if err == nil && int64(len(blob)) > maxSize {
			return invalidf("the blob is larger than %d bytes", maxSize)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return blob, nil
}

// HasBlob reports whether the repository holds a blob.
func (c *Client) HasBlob(ctx context.Context, repository Repository, d digest.Digest) (bool, error) {
	var has bool
	q := question{op: "head blob", repository: repository, tagOrDigest: d.String(), scope: transport.PullScope}
	err := c.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		layer, err := s.puller.Layer(ctx, ref.Context().Digest(d.String()))
		if err != nil {
			return err
		}
		has, err = partial.Exists(layer)
		return err
	})
	return has, err
}

// question is what an operation does, where, to what, and the right it needs:
// one of the scopes of package transport.
type question struct {
	op          string
	repository  Repository
	tagOrDigest string
	scope       string
	whole       bool // about the repository itself; there is no tagOrDigest
}

// text names what the question is about, for messages.
func (q question) text() string {
	switch {
	case q.whole:
		return q.repository.String()
	case ValidTag(q.tagOrDigest):
		return q.repository.Tagged(q.tagOrDigest).String()
	default:
		return q.repository.String() + "@" + q.tagOrDigest
	}
}

// ask runs one operation within its time and makes an *Error of its failure.
func (c *Client) ask(ctx context.Context, q question, operation func(context.Context, *session, name.Reference) error) error {
	return c.askWithin(ctx, c.timeout, q, operation)
}

func (c *Client) askWithin(ctx context.Context, timeout time.Duration, q question, operation func(context.Context, *session, name.Reference) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ref, err := c.reference(q)
	if err != nil {
		return q.failure(err)
	}
	session, err := c.sessions.get(ctx, ref.Context(), q.scope)
	if err != nil {
		return q.failure(err)
	}
	return q.failure(operation(ctx, session, ref))
}

// reference is what q is about in the terms of go-containerregistry.
func (c *Client) reference(q question) (name.Reference, error) {
	if q.repository == (Repository{}) {
		return nil, invalidf("no repository is named")
	}
	repository, err := remoteName(q.repository, c.insecure)
	if err != nil {
		return nil, invalidf("%v", err)
	}
	if q.whole || ValidTag(q.tagOrDigest) {
		return repository.Tag(q.tagOrDigest), nil
	}
	d, err := digest.Parse(q.tagOrDigest)
	if err != nil {
		return nil, invalidf("%q is neither a tag nor a digest", q.tagOrDigest)
	}
	return repository.Digest(d.String()), nil
}
