package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blobs are the blobs of one repository as streams, of any size.
type Blobs struct {
	client     *Client
	repository Repository
}

// Blobs opens a repository for large blobs.
func (c *Client) Blobs(repository Repository) Blobs { return Blobs{c, repository} }

// A large blob is read in parts, so that one that breaks off is asked for
// again alone, and some are under way while one is used.
const (
	partSize   = 8 << 20
	partsAhead = 4
)

// Get reads a blob. Reading to the end fails if it has not the digest and the
// size of its descriptor.
func (b Blobs) Get(ctx context.Context, blob ocispec.Descriptor) (io.ReadCloser, error) {
	if err := blob.Digest.Validate(); err != nil || blob.Size < 0 {
		return nil, invalidf("%q of %d bytes is not a blob", blob.Digest, blob.Size)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &partReader{cancel: cancel, blob: blob, verifier: blob.Digest.Algorithm().Hash(), parts: make(chan chan part, partsAhead-1)}
	go r.ask(ctx, b)
	return r, nil
}

// partReader reads the parts of a blob in order.
type partReader struct {
	cancel   context.CancelFunc
	blob     ocispec.Descriptor
	parts    chan chan part
	stopped  error // why not all parts were asked for; set before parts is closed
	verifier hash.Hash
	read     int64
	current  []byte
	err      error
}

type part struct {
	content []byte
	err     error
}

func (r *partReader) ask(ctx context.Context, b Blobs) {
	defer close(r.parts)
	for offset := int64(0); offset < r.blob.Size; offset += partSize {
		answer := make(chan part, 1)
		select {
		case r.parts <- answer:
		case <-ctx.Done():
			r.stopped = context.Cause(ctx)
			return
		}
		if r.blob.Size <= partSize {
			content, err := b.client.Blob(ctx, b.repository, r.blob.Digest, r.blob.Size)
			answer <- part{content, err}
			return
		}
		go func() {
			content, err := b.client.BlobRange(ctx, b.repository, r.blob.Digest, offset, min(partSize, r.blob.Size-offset))
			answer <- part{content, err}
		}()
	}
}

func (r *partReader) Read(p []byte) (int, error) {
	for len(r.current) == 0 && r.err == nil {
		answer, ok := <-r.parts
		if !ok {
			r.err = r.end()
			break
		}
		next := <-answer
		r.current, r.err = next.content, next.err
		r.verifier.Write(next.content)
		r.read += int64(len(next.content))
		if r.err == nil && len(next.content) == 0 {
			r.err = invalidf("the blob %s is shorter than %d bytes", r.blob.Digest, r.blob.Size)
		}
	}
	if len(r.current) == 0 {
		return 0, r.err
	}
	n := copy(p, r.current)
	r.current = r.current[n:]
	return n, nil
}

func (r *partReader) end() error {
	if r.stopped != nil {
		return fmt.Errorf("read the blob %s: %w", r.blob.Digest, r.stopped)
	}
	if got := digest.NewDigest(r.blob.Digest.Algorithm(), r.verifier); r.read != r.blob.Size || got != r.blob.Digest {
		return invalidf("the blob %s has %d bytes of the digest %s", r.blob.Digest, r.read, got)
	}
	return io.EOF
}

// Close ends what is under way.
func (r *partReader) Close() error {
	r.cancel()
	return nil
}

// slowestUpload is what an upload must reach, in bytes a second, beside the
// time that every operation has.
const slowestUpload = 256 << 10

// Put writes a blob, unless the repository holds it, and describes it. The
// content goes through a temporary file first: only with its digest can an
// upload that breaks be begun anew.
func (b Blobs) Put(ctx context.Context, mediaType string, content io.Reader) (ocispec.Descriptor, error) {
	small, err := io.ReadAll(io.LimitReader(content, partSize))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(small) < partSize {
		return b.client.PutBlob(ctx, b.repository, small, mediaType)
	}
	spool, err := os.CreateTemp("", "docker-build-remote-cache-blob-")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	// Without a name, where the system allows it, it is gone with the process,
	// however that ends.
	if os.Remove(spool.Name()) != nil {
		defer os.Remove(spool.Name())
	}
	defer spool.Close()
	digester := digest.SHA256.Digester()
	to := io.MultiWriter(spool, digester.Hash())
	if _, err := to.Write(small); err != nil {
		return ocispec.Descriptor{}, err
	}
	rest, err := io.Copy(to, content)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	written := ocispec.Descriptor{MediaType: mediaType, Digest: digester.Digest(), Size: int64(len(small)) + rest}
	return written, b.client.upload(ctx, b.repository, &spooled{written, spool})
}

// upload sends a layer, from the beginning as often as it breaks.
func (c *Client) upload(ctx context.Context, repository Repository, layer *spooled) error {
	timeout := c.timeout + time.Duration(layer.blob.Size/slowestUpload)*time.Second
	q := question{op: "put blob", repository: repository, tagOrDigest: layer.blob.Digest.String(), scope: transport.PushScope}
	return c.askWithin(ctx, timeout, q, func(ctx context.Context, s *session, ref name.Reference) error {
		return c.uploadLayer(ctx, s, ref.Context(), layer)
	})
}

// uploadLayer sends a layer, unless the repository holds it; what breaks in
// the middle is begun anew a few times, since its parts cannot be sent again.
func (c *Client) uploadLayer(ctx context.Context, s *session, to name.Repository, layer v1.Layer) error {
	for attempt := 1; ; attempt++ {
		pusher, err := s.pusher()
		if err != nil {
			return err
		}
		err = pusher.Upload(ctx, to, layer)
		if attempt == uploadAttempts || !brokenUpload(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return cmp.Or(context.Cause(ctx), err)
		case <-time.After(c.sessions.transport.wait):
		}
	}
}

// spooled is a blob in a file, as a v1.Layer.
type spooled struct {
	blob ocispec.Descriptor
	file *os.File
}

func (s *spooled) Digest() (v1.Hash, error) { return v1.NewHash(s.blob.Digest.String()) }
func (s *spooled) Size() (int64, error)     { return s.blob.Size, nil }
func (s *spooled) MediaType() (types.MediaType, error) {
	return types.MediaType(s.blob.MediaType), nil
}
func (s *spooled) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.file, 0, s.blob.Size)), nil
}

// DiffID and Uncompressed are of no use for uploading.
func (s *spooled) DiffID() (v1.Hash, error)             { return v1.Hash{}, errors.ErrUnsupported }
func (s *spooled) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
