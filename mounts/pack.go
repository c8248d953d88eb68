package mounts

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A pack is a zstd stream of contents, each preceded by its size as a varint.

// packFacts are what both ends must know of a Pack.
type packFacts struct {
	ID       int
	Bytes    int64
	Contents int
}

// packWriter writes a pack.
type packWriter struct {
	encoder  *zstd.Encoder
	bytes    int64
	contents int
}

// newPackWriter compresses with zstd's fastest level, which is faster than a
// registry on most networks; much of what package managers keep is compressed
// already.
func newPackWriter(w io.Writer) (*packWriter, error) {
	encoder, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	return &packWriter{encoder: encoder}, err
}

// begin starts a content of a size; that many bytes are then to be written.
func (p *packWriter) begin(size int64) (index int, err error) {
	index = p.contents
	p.contents++
	p.bytes += size
	_, err = p.encoder.Write(binary.AppendUvarint(nil, uint64(size)))
	return index, err
}

func (p *packWriter) Write(b []byte) (int, error) { return p.encoder.Write(b) }

func (p *packWriter) Close() error { return p.encoder.Close() }

// packReader reads a pack, and no more of it than its facts say.
type packReader struct {
	facts   packFacts
	decoder *zstd.Decoder
	buffer  *bufio.Reader
	left    int64 // of all contents
	index   int   // of the next content
	pending int64 // of the content that was begun
}

func newPackReader(r io.Reader, facts packFacts) (*packReader, error) {
	decoder, err := newDecoder(r)
	if err != nil {
		return nil, err
	}
	return &packReader{facts: facts, decoder: decoder, buffer: bufio.NewReaderSize(decoder, 256<<10), left: facts.Bytes}, nil
}

// next leaves the content it is in and begins the next one; io.EOF is after
// the last.
func (p *packReader) next() (index int, size int64, err error) {
	if _, err := io.Copy(io.Discard, p); err != nil {
		return 0, 0, err
	}
	if p.index == p.facts.Contents {
		if _, err := p.buffer.ReadByte(); err != io.EOF {
			if err == nil {
				err = damagedf("the pack %d is longer than it should be", p.facts.ID)
			}
			return 0, 0, p.broken(err)
		}
		return 0, 0, io.EOF
	}
	n, err := binary.ReadUvarint(p.buffer)
	if err != nil {
		return 0, 0, p.broken(err)
	}
	if n > uint64(p.left) {
		return 0, 0, damagedf("the pack %d is longer than it should be", p.facts.ID)
	}
	size, index = int64(n), p.index
	p.left -= size
	p.pending = size
	p.index++
	return index, size, nil
}

// Read reads from the content that was begun.
func (p *packReader) Read(b []byte) (int, error) {
	if p.pending == 0 {
		return 0, io.EOF
	}
	n, err := p.buffer.Read(b[:min(int64(len(b)), p.pending)])
	p.pending -= int64(n)
	if err != nil {
		err = p.broken(err)
	}
	return n, err
}

func (p *packReader) Close() { p.decoder.Close() }

// broken makes the end of the blob in the midst of the pack an error of the
// pack; what the stream beneath says stays what it is.
func (p *packReader) broken(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return damagedf("the pack %d is cut off", p.facts.ID)
	}
	return asDamage(err)
}

// newDecoder reads zstd within bounds of memory: its window is what the
// encoder of this package uses, with room for a later one's.
func newDecoder(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(source{r}, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(32<<20))
}

// source marks the errors of a stream beneath zstd, to tell them from what is
// wrong with the data.
type source struct{ io.Reader }

type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

func (s source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = sourceError{err}
	}
	return n, err
}

// asDamage is an error of decoding as ErrDamaged, and one of the stream
// beneath as it was.
func asDamage(err error) error {
	var stream sourceError
	switch {
	case err == nil, errors.Is(err, ErrDamaged):
		return err
	case errors.As(err, &stream):
		return stream.error
	default:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
}
