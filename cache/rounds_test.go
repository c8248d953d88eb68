package cache

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manyStages is a Dockerfile of n stages.
func manyStages(n int) string {
	var file strings.Builder
	for i := range n {
		fmt.Fprintf(&file, "FROM base AS stage%d\nRUN make %d\n", i, i)
	}
	return file.String()
}

// latency is a registry that is far away: in a bubble of synctest, the time
// that goes by is the number of round trips that wait for each other.
type latency struct {
	ReadWriter         // what is not asked for here
	manifests, configs map[digest.Digest][]byte
	tags               map[string]ocispec.Descriptor

	mu    sync.Mutex
	asked int
}

const roundTrip = time.Second

func (l *latency) wait() {
	l.mu.Lock()
	l.asked++
	l.mu.Unlock()
	time.Sleep(roundTrip)
}

func (l *latency) Manifest(_ context.Context, _ registry.Repository, tagOrDigest string) ([]byte, ocispec.Descriptor, error) {
	l.wait()
	root, ok := l.tags[tagOrDigest]
	if !ok {
		root = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(tagOrDigest)}
	}
	raw, ok := l.manifests[root.Digest]
	if !ok {
		return nil, root, fmt.Errorf("%s: %w", tagOrDigest, registry.ErrNotFound)
	}
	return raw, root, nil
}

func (l *latency) Head(ctx context.Context, r registry.Repository, tagOrDigest string) (ocispec.Descriptor, error) {
	_, root, err := l.Manifest(ctx, r, tagOrDigest)
	return root, err
}

func (l *latency) Blob(_ context.Context, _ registry.Repository, d digest.Digest, _ int64) ([]byte, error) {
	l.wait()
	return l.configs[d], nil
}

func (l *latency) BlobRange(context.Context, registry.Repository, digest.Digest, int64, int64) ([]byte, error) {
	return nil, registry.ErrNotFound
}

func (l *latency) HasBlob(context.Context, registry.Repository, digest.Digest) (bool, error) {
	l.wait()
	return true, nil
}

func (l *latency) PutBlob(_ context.Context, _ registry.Repository, blob []byte, mediaType string) (ocispec.Descriptor, error) {
	l.wait()
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}, nil
}

func (l *latency) PutManifest(_ context.Context, _ registry.Repository, _ string, raw []byte, mediaType string) (ocispec.Descriptor, error) {
	l.wait()
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, nil
}

// copyOf takes the caches of a fake registry.
func copyOf(t *testing.T, f *fake, tags ...string) *latency {
	l := &latency{tags: map[string]ocispec.Descriptor{}, manifests: map[digest.Digest][]byte{}, configs: map[digest.Digest][]byte{}}
	for _, tag := range tags {
		raw, root, err := f.client.Manifest(t.Context(), f.repo, tag)
		if err != nil {
			t.Fatal(err)
		}
		content, err := registry.Classify(raw, root.MediaType)
		if err != nil {
			t.Fatal(err)
		}
		l.tags[tag], l.manifests[root.Digest] = root, raw
		if l.configs[content.Config.Digest], err = f.client.Blob(t.Context(), f.repo, content.Config.Digest, maxConfig); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// However many stages there are, a view takes few round trips: one for the
// tags, one for the configs, one for the layers, three to write it; each of
// them as often as there are more questions than are asked at once.
func TestRoundTripsOfALookUp(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var steps [2][]string
	for i := range 50 {
		steps[0] = append(steps[0], fmt.Sprintf("step%d", i))
		steps[1] = append(steps[1], fmt.Sprintf("step%d@feat", i))
	}
	f.push(t, f.repo, exportTag(master, ""), append(steps[0], "more")...)
	f.push(t, f.repo, exportTag(feat, ""), append(steps[1], "other")...)
	l := copyOf(t, f, exportTag(master, ""), exportTag(feat, ""))
	for _, tc := range []struct{ stages, rounds int }{{1, 7}, {10, 7}, {50, 10}} {
		r := request(t, manyStages(tc.stages), func(r *Request) {
			r.Image.Repository, r.Repository = f.repo, f.repo
			r.BaseBranch.Name = "release"
		})
		p := NewPlan(r)
		synctest.Test(t, func(t *testing.T) {
			l.asked = 0
			began := time.Now()
			view := Compose(t.Context(), l, p, Look(t.Context(), l, p))
			rounds := int(time.Since(began) / roundTrip)
			if view.Ref == "" || len(view.Warnings) > 0 {
				t.Errorf("no view: %q", view.Warnings)
			}
			if rounds != tc.rounds {
				t.Errorf("%d stages on 4 levels: %d questions in %d round trips, want %d", tc.stages, l.asked, rounds, tc.rounds)
			}
			t.Logf("%d stages on 4 levels: %d questions in %d round trips", tc.stages, l.asked, rounds)
		})
	}
}
