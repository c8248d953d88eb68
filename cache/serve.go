package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// RangeReader is what serving a view asks of a registry.
type RangeReader interface {
	BlobRange(ctx context.Context, r registry.Repository, d digest.Digest, offset, size int64) ([]byte, error)
}

// served is a view as a content store that a build's session offers to the
// engine: the manifest and its config from memory, the layers from the
// registry when they are asked for. Nothing is written anywhere.
type served struct {
	blobs     *blobs
	documents map[digest.Digest][]byte
	layers    map[digest.Digest]ocispec.Descriptor

	mu   sync.Mutex
	open []*parts // the latest last
}

func newServed(blobs *blobs, m *merge.Merged) *served {
	s := &served{
		blobs:     blobs,
		documents: map[digest.Digest][]byte{m.Digest: m.Manifest, m.ConfigDescriptor.Digest: m.Config},
		layers:    map[digest.Digest]ocispec.Descriptor{},
	}
	for _, layer := range m.Layers {
		s.layers[layer.Digest] = layer
	}
	return s
}

// Info implements content.Store.
func (s *served) Info(_ context.Context, d digest.Digest) (content.Info, error) {
	if document, ok := s.documents[d]; ok {
		return content.Info{Digest: d, Size: int64(len(document))}, nil
	}
	if layer, ok := s.layers[d]; ok {
		return content.Info{Digest: d, Size: layer.Size}, nil
	}
	return content.Info{}, fmt.Errorf("blob %s of the cache: %w", d, errdefs.ErrNotFound)
}

// ReaderAt implements content.Store. The daemon opens one for each MiB that
// it reads (containerd's plugins/services/content/contentserver), so what was
// fetched for one is kept for the next.
func (s *served) ReaderAt(ctx context.Context, wanted ocispec.Descriptor) (content.ReaderAt, error) {
	if document, ok := s.documents[wanted.Digest]; ok {
		return &inMemory{bytes.NewReader(document)}, nil
	}
	layer, ok := s.layers[wanted.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s of the cache: %w", wanted.Digest, errdefs.ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.open, func(p *parts) bool { return p.digest == layer.Digest }); i >= 0 {
		return s.open[i], nil
	}
	home, _ := s.blobs.home(layer.Digest)
	ctx = context.WithoutCancel(ctx) // of one call of several
	opened := &parts{digest: layer.Digest, size: layer.Size, fetched: map[int64]func() ([]byte, error){}}
	opened.fetch = func(offset, size int64) ([]byte, error) {
		return s.blobs.rw.BlobRange(ctx, home, layer.Digest, offset, size)
	}
	s.open = append(s.open, opened)
	if len(s.open) > maxOpen {
		s.open = slices.Delete(s.open, 0, 1)
	}
	return opened, nil
}

// partSize is how much of a layer is fetched at a time, in bytes. With the
// next part on its way while one is read, 40 ms of latency leave room for
// 100 MB/s. maxOpen bounds the layers of which parts are kept: engines read
// few at once.
const (
	partSize = 4 << 20
	maxOpen  = 8
)

// inMemory is a blob in memory.
type inMemory struct{ *bytes.Reader }

// Close implements content.ReaderAt.
func (inMemory) Close() error { return nil }

// parts is a blob that is read in order, and fetched part by part, one ahead.
type parts struct {
	digest digest.Digest
	size   int64
	fetch  func(offset, size int64) ([]byte, error)

	mu      sync.Mutex
	fetched map[int64]func() ([]byte, error) // by number; at most two
}

// ReadAt implements io.ReaderAt.
func (p *parts) ReadAt(to []byte, offset int64) (n int, err error) {
	for n < len(to) {
		at := offset + int64(n)
		if at >= p.size {
			return n, io.EOF
		}
		part, err := p.part(at / partSize)
		if err != nil {
			return n, err
		}
		from := at % partSize
		if from >= int64(len(part)) {
			return n, io.ErrUnexpectedEOF
		}
		n += copy(to[n:], part[from:])
	}
	return n, nil
}

// part waits for one part. The next one is begun, others are dropped.
func (p *parts) part(number int64) ([]byte, error) {
	p.mu.Lock()
	for other := range p.fetched {
		if other != number && other != number+1 {
			delete(p.fetched, other)
		}
	}
	p.begin(number)
	p.begin(number + 1)
	future := p.fetched[number]
	p.mu.Unlock()

	part, err := future()
	if err != nil { // not to be met again by the next who asks
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.fetched, number)
	}
	return part, err
}

func (p *parts) begin(number int64) {
	offset := number * partSize
	if p.fetched[number] != nil || offset >= p.size {
		return
	}
	future := sync.OnceValues(func() ([]byte, error) { return p.fetch(offset, min(partSize, p.size-offset)) })
	p.fetched[number] = future
	go future()
}

// Size implements content.ReaderAt.
func (p *parts) Size() int64 { return p.size }

// Close implements content.ReaderAt.
func (p *parts) Close() error { return nil }

// What else a content.Store can do is nothing that an importer asks for.
var errReadOnly = fmt.Errorf("the cache is only read: %w", errdefs.ErrNotImplemented)

// Update implements content.Store.
func (*served) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, errReadOnly
}

// Walk implements content.Store.
func (*served) Walk(context.Context, content.WalkFunc, ...string) error { return errReadOnly }

// Delete implements content.Store.
func (*served) Delete(context.Context, digest.Digest) error { return errReadOnly }

// ListStatuses implements content.Store.
func (*served) ListStatuses(context.Context, ...string) ([]content.Status, error) {
	return nil, errReadOnly
}

// Status implements content.Store.
func (*served) Status(context.Context, string) (content.Status, error) {
	return content.Status{}, errReadOnly
}

// Abort implements content.Store.
func (*served) Abort(context.Context, string) error { return errReadOnly }

// Writer implements content.Store.
func (*served) Writer(context.Context, ...content.WriterOpt) (content.Writer, error) {
	return nil, errReadOnly
}
