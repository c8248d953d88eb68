package registry

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestBlobRange(t *testing.T) {
	t.Parallel()
	ignoresRanges := false
	f := newFake(t, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if ignoresRanges {
			r.Header.Del("Range")
		}
		return false
	})
	c, ctx := f.client(t), t.Context()
	content := strings.Repeat("0123456789", 10)
	blob, err := c.PutBlob(ctx, f.Repository, []byte(content), "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		offset, size int64
		want         string
	}{{0, 5, content[:5]}, {35, 10, content[35:45]}, {95, 5, content[95:]}, {0, 100, content}} {
		if got, err := c.BlobRange(ctx, f.Repository, blob.Digest, part.offset, part.size); string(got) != part.want || err != nil {
			t.Errorf("BlobRange(%d, %d) = %q, %v, want %q", part.offset, part.size, got, err, part.want)
		}
	}
	if _, err := c.BlobRange(ctx, f.Repository, digest.FromString("else"), 0, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("of a missing blob: %v", err)
	}
	ignoresRanges = true
	if got, err := c.BlobRange(ctx, f.Repository, blob.Digest, 0, 100); string(got) != content || err != nil {
		t.Errorf("BlobRange of a registry without ranges = %q, %v", got, err)
	}
	for _, offset := range []int64{0, 90} {
		if _, err := c.BlobRange(ctx, f.Repository, blob.Digest, offset, 10); !errors.Is(err, ErrInvalid) {
			t.Errorf("more than was asked for at %d: %v", offset, err)
		}
	}
}
