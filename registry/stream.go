package registry

import (
	"context"
	"errors"
	"fmt"
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

// Blobs reads and writes the large blobs of one repository as streams.
type Blobs struct {
	Client     *Client
	Repository Repository
}

const (
	// rangePart is how much is asked for at once, in bytes: small enough to be
	// held in memory and asked for again, large enough that the questions do
	// not count.
	rangePart = 8 << 20
	// slowestLink is the speed below which an upload is given up, in bytes a
	// second.
	slowestLink = 256 << 10
)

// Get reads a blob. Reading to its end fails as ErrInvalid if it has not the
// digest and the size of its descriptor. The next part is asked for while one
// is read.
func (b Blobs) Get(ctx context.Context, blob ocispec.Descriptor) (io.ReadCloser, error) {
	if err := blob.Digest.Validate(); err != nil {
		return nil, invalidf("blob %q: %v", blob.Digest, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &rangeReader{cancel: cancel, left: blob.Size, want: blob.Digest, verifier: blob.Digest.Verifier(), parts: make(chan rangeRead, 1)}
	go func() {
		defer close(r.parts)
		for offset := int64(0); offset < blob.Size; offset += rangePart {
			part, err := b.Client.BlobRange(ctx, b.Repository, blob.Digest, offset, min(rangePart, blob.Size-offset))
			select {
			case r.parts <- rangeRead{part, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return r, nil
}

type rangeRead struct {
	part []byte
	err  error
}

// rangeReader is a blob that is read in parts.
type rangeReader struct {
	cancel   context.CancelFunc
	parts    chan rangeRead
	part     []byte
	left     int64
	want     digest.Digest
	verifier digest.Verifier
	err      error
}

// Read implements io.Reader.
func (r *rangeReader) Read(p []byte) (int, error) {
	for len(r.part) == 0 && r.err == nil {
		next, ok := <-r.parts
		switch {
		case !ok && r.left > 0:
			r.err = invalidf("the blob %s is shorter than its descriptor says", r.want)
		case !ok && !r.verifier.Verified():
			r.err = invalidf("the blob %s has another digest", r.want)
		case !ok:
			r.err = io.EOF
		default:
			r.part, r.err = next.part, next.err
			r.left -= int64(len(r.part))
			r.verifier.Write(r.part)
		}
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(p, r.part)
	r.part = r.part[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *rangeReader) Close() error {
	r.cancel()
	return nil
}

// Put writes a blob, unless the repository has it, and describes it. It is
// kept in a file meanwhile: its digest is known at its end only, and an upload
// that breaks has to begin anew.
func (b Blobs) Put(ctx context.Context, mediaType string, content io.Reader) (_ ocispec.Descriptor, err error) {
	file, err := os.CreateTemp("", "docker-build-remote-cache-blob-*")
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("keep a blob: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	hash := digest.Canonical.Digester()
	size, err := io.Copy(io.MultiWriter(file, hash.Hash()), content)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("keep a blob: %w", err)
	}
	written := ocispec.Descriptor{MediaType: mediaType, Digest: hash.Digest(), Size: size}
	q := question{
		op: "put blob", repository: b.Repository, tagOrDigest: written.Digest.String(), scope: transport.PushScope,
		more: time.Duration(size/slowestLink) * time.Second,
	}
	err = b.Client.ask(ctx, q, func(ctx context.Context, s *session, ref name.Reference) error {
		return b.Client.upload(ctx, s, ref, fileLayer{file, written})
	})
	return written, err
}

// fileLayer is a blob in a file, a v1.Layer.
type fileLayer struct {
	file *os.File
	desc ocispec.Descriptor
}

func (l fileLayer) Digest() (v1.Hash, error) { return v1.NewHash(l.desc.Digest.String()) }
func (l fileLayer) DiffID() (v1.Hash, error) { return l.Digest() }
func (l fileLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(l.file, 0, l.desc.Size)), nil
}
func (l fileLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
func (l fileLayer) Size() (int64, error)                 { return l.desc.Size, nil }
func (l fileLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.desc.MediaType), nil
}
