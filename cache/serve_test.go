package cache

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

func newParts(content []byte, fetch func(part []byte) ([]byte, error)) *parts {
	return &parts{
		size: int64(len(content)), fetched: map[int64]func() ([]byte, error){},
		fetch: func(offset, size int64) ([]byte, error) { return fetch(content[offset : offset+size]) },
	}
}

func TestPartsMakeUpTheBlob(t *testing.T) {
	t.Parallel()
	content := make([]byte, 2*partSize+12345)
	for i := range content {
		content[i] = byte(i >> 9)
	}
	var fetched atomic.Int64
	p := newParts(content, func(part []byte) ([]byte, error) { fetched.Add(int64(len(part))); return part, nil })
	got, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("read %d of %d bytes: %v", len(got), len(content), err)
	}
	if fetched.Load() != int64(len(content)) {
		t.Errorf("%d bytes were fetched for %d", fetched.Load(), len(content))
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		offset, size := random.Int64N(p.size), random.Int64N(partSize+partSize/2)
		got := make([]byte, size)
		n, err := p.ReadAt(got, offset)
		want := content[offset:min(offset+size, p.size)]
		if !bytes.Equal(got[:n], want) || (err == io.EOF) != (int64(len(want)) < size) || err != nil && err != io.EOF {
			t.Fatalf("ReadAt(%d, %d) = %d, %v", size, offset, n, err)
		}
	}
}

func TestPartThatFailedIsFetchedAgain(t *testing.T) {
	t.Parallel()
	failed := errors.New("not now")
	content := []byte("content")
	fails := true
	p := newParts(content, func(part []byte) ([]byte, error) {
		if fails {
			return nil, failed
		}
		return part, nil
	})
	got := make([]byte, len(content))
	if _, err := p.ReadAt(got, 0); !errors.Is(err, failed) {
		t.Fatalf("ReadAt: %v", err)
	}
	fails = false
	if _, err := p.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("ReadAt again = %q, %v", got, err)
	}
}

func TestPartThatIsTooShort(t *testing.T) {
	t.Parallel()
	p := newParts([]byte("content"), func(part []byte) ([]byte, error) { return part[:3], nil })
	if _, err := p.ReadAt(make([]byte, 7), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAt: %v", err)
	}
}
