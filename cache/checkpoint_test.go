package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/google/go-cmp/cmp"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	cacheimporttypes "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// threeStages is a Dockerfile with a step in each of three stages, of which
// the last needs the first.
const threeStages = "FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nFROM c\nCOPY --from=one / /\n"

// fakeBuild exports the steps that it is told are complete, as a cache of one
// record each.
type fakeBuild struct {
	client *registry.Client
	repo   registry.Repository
	fail   func(call int) error // nil for never

	mu       sync.Mutex
	steps    []string
	exported [][]int // the stages of each call
	images   bool    // it pushes stages too
	pushed   []int   // those that were
	done     chan struct{}
}

func (b *fakeBuild) ExportCache(ctx context.Context, ref string, stages ...int) (ocispec.Descriptor, error) {
	b.mu.Lock()
	b.exported = append(b.exported, stages)
	call, steps := len(b.exported), slices.Clone(b.steps)
	b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail(call); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	_, tag, _ := strings.Cut(ref, b.repo.String()+":")
	desc, err := pushCache(ctx, b.client, b.repo, tag, steps)
	if b.done != nil {
		b.done <- struct{}{}
	}
	return desc, err
}

func (b *fakeBuild) PushStage(ctx context.Context, stage int, _ string) (ocispec.Descriptor, error) {
	if !b.images {
		return ocispec.Descriptor{}, errors.New("no image in this test")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pushed = append(b.pushed, stage)
	desc, err := pushCache(ctx, b.client, b.repo, fmt.Sprint("pushed-", stage), nil)
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	return desc, err
}

func (b *fakeBuild) PushPartial(ctx context.Context, stage int, _ string) (ocispec.Descriptor, error) {
	if !b.images {
		return ocispec.Descriptor{}, errors.New("this engine's images carry no cache")
	}
	desc, err := pushCache(ctx, b.client, b.repo, fmt.Sprint("pushed-part-", stage), nil)
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	return desc, err
}

func (b *fakeBuild) calls() [][]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.exported)
}

// pushCache writes a cache as BuildKit does, with a result for each step.
func pushCache(ctx context.Context, c *registry.Client, repo registry.Repository, tag string, steps []string) (ocispec.Descriptor, error) {
	var config cacheimporttypes.CacheConfig
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i, step := range steps {
		blob := digest.FromString("layer " + step)
		config.Layers = append(config.Layers, cacheimporttypes.CacheLayer{Blob: blob, ParentIndex: -1})
		config.Records = append(config.Records, cacheimporttypes.CacheRecord{
			Digest: digest.FromString(step), Results: []cacheimporttypes.CacheResult{{LayerIndex: i, CreatedAt: time.Unix(1, 0).UTC()}},
		})
		manifest.Layers = append(manifest.Layers, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayerZstd, Digest: blob, Size: 1,
			Annotations: map[string]string{"containerd.io/uncompressed": blob.String()},
		})
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if manifest.Config, err = c.PutBlob(ctx, repo, raw, cacheimporttypes.CacheConfigMediaTypeV0); err != nil {
		return ocispec.Descriptor{}, err
	}
	if raw, err = json.Marshal(manifest); err != nil {
		return ocispec.Descriptor{}, err
	}
	return c.PutManifest(ctx, repo, tag, raw, ocispec.MediaTypeImageManifest)
}

// blobsAt are the layers of the cache at a tag.
func blobsAt(t *testing.T, b *fakeBuild, tag string) []string {
	t.Helper()
	raw, _, err := b.client.Manifest(t.Context(), b.repo, tag)
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := merge.ParseManifest(raw); err != nil {
		t.Fatal(err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	var blobs []string
	for _, layer := range manifest.Layers {
		blobs = append(blobs, layer.Digest.String())
	}
	slices.Sort(blobs)
	return blobs
}

func blobsOf(steps ...string) []string {
	var blobs []string
	for _, step := range steps {
		blobs = append(blobs, digest.FromString("layer "+step).String())
	}
	slices.Sort(blobs)
	return blobs
}

// newSaving is a saver of a fake build over a real registry in process.
func newSaving(t *testing.T) (*Saver, *fakeBuild) {
	t.Helper()
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	image, err := registry.ParseImage(strings.TrimPrefix(server.URL, "http://") + "/acme/app:1")
	if err != nil {
		t.Fatal(err)
	}
	plan := NewPlan(request(t, threeStages, func(r *Request) { r.Image, r.Repository = image, image.Repository }))
	b := &fakeBuild{client: registry.NewClient(registry.Options{}), repo: image.Repository}
	return NewSaver(b.client, b, plan, Found{}, "test"), b
}

// stage is a stage of one step, which is complete if it worked.
func stage(index, line int, worked time.Duration) CompletedStage {
	s := CompletedStage{Index: index, Whole: worked > 0}
	if worked > 0 {
		s.Ran = []CompletedStep{{Line: line, Worked: worked}}
	}
	return s
}

// A stage that is whole is exported while others are being built, and nothing
// is exported again that has not changed.
func TestCheckpointWhenAStageIsDone(t *testing.T) {
	t.Parallel()
	s, b := newSaving(t)
	b.done = make(chan struct{}, 10)
	partly := Completed{SeparateCache: true, Stages: []CompletedStage{
		{Index: 0, Ran: []CompletedStep{{Line: 2, Worked: 1}}}, stage(1, 4, 0), stage(2, 6, 0),
	}}
	whole := Completed{SeparateCache: true, Stages: []CompletedStage{stage(0, 2, 1), stage(1, 4, 0), stage(2, 6, 0)}}
	looks, now := make(chan int), partly
	var mu sync.Mutex
	n := 0
	ended, returned := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(returned)
		s.Checkpoints(t.Context(), time.Hour, ended, func() Completed {
			mu.Lock()
			defer mu.Unlock()
			n++
			select {
			case looks <- n:
			default:
			}
			return now
		})
	}()
	<-looks
	<-looks
	if calls := b.calls(); len(calls) > 0 {
		t.Errorf("exported %d times before a stage was whole", len(calls))
	}
	b.mu.Lock()
	b.steps = []string{"one"}
	b.mu.Unlock()
	mu.Lock()
	now = whole
	mu.Unlock()
	<-b.done
	for range 3 {
		<-looks
	}
	close(ended)
	<-returned
	if calls := b.calls(); len(calls) != 1 {
		t.Errorf("exported %d times, want once", len(calls))
	}
	if diff := cmp.Diff(blobsOf("one"), blobsAt(t, b, s.plan.Owner().PartialTag())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{2}, s.Held()); diff != "" {
		t.Error(diff)
	}
}

// What an earlier build got done elsewhere stays.
func TestPartialIsUnited(t *testing.T) {
	t.Parallel()
	s, b := newSaving(t)
	tag := s.plan.Owner().PartialTag()
	for _, steps := range [][]string{{"one", "two"}, {"three"}, {"one"}} {
		b.steps = steps
		if _, err := s.exportPartial(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(blobsOf("one", "two", "three"), blobsAt(t, b, tag)); diff != "" {
		t.Error(diff)
	}
}

// A complete cache takes the place of the partial one, also of one that was
// not there when the build began.
func TestCompleteSupersedesPartial(t *testing.T) {
	t.Parallel()
	s, b := newSaving(t)
	b.steps = []string{"one"}
	if err := s.checkpoint(t.Context(), Completed{SeparateCache: true, Stages: []CompletedStage{stage(0, 2, 1)}}, true); err != nil {
		t.Fatal(err)
	}
	b.steps = []string{"one'", "two", "three"}
	s.Save(t.Context(), Completed{Success: true, SeparateCache: true, Stages: []CompletedStage{stage(0, 2, 1), stage(1, 4, 1), stage(2, 6, 1)}})
	if diff := cmp.Diff(blobsOf("one'", "two", "three"), blobsAt(t, b, s.plan.Owner().PartialTag())); diff != "" {
		t.Error(diff)
	}
}

// What no checkpoint has uploaded is not pushed as an image while the cache that
// shares its layers is exported: the engine would upload it twice.
func TestImagesWaitForWhatTheyShare(t *testing.T) {
	t.Parallel()
	s, b := newSaving(t)
	b.steps, b.images = []string{"one"}, true
	early := 0
	b.fail = func(int) error {
		time.Sleep(50 * time.Millisecond)
		b.mu.Lock()
		defer b.mu.Unlock()
		early += len(b.pushed)
		return nil
	}
	s.Save(t.Context(), Completed{Success: true, SeparateCache: true, Stages: []CompletedStage{stage(0, 2, 1), stage(1, 4, 1), stage(2, 6, 1)}})
	if early > 0 || len(b.pushed) != 3 {
		t.Errorf("%d images pushed beside the export, %d in all, want none and 3", early, len(b.pushed))
	}
}

// In a hurry the work that would be missed most goes first.
func TestHurryCostliestFirst(t *testing.T) {
	t.Parallel()
	s, b := newSaving(t)
	b.steps = []string{"any"}
	s.Save(t.Context(), Completed{Hurry: true, SeparateCache: true, Stages: []CompletedStage{
		stage(0, 2, time.Second), stage(1, 4, time.Minute), {Index: 2},
	}})
	if diff := cmp.Diff([][]int{{1}, nil}, b.calls()); diff != "" {
		t.Error(diff)
	}
}

type temporaryError struct{ again bool }

func (e temporaryError) Error() string   { return "the registry said no" }
func (e temporaryError) Temporary() bool { return e.again }

func TestExportIsRetried(t *testing.T) {
	t.Parallel()
	first := func(call int) error {
		if call == 1 {
			return temporaryError{true}
		}
		return nil
	}
	for name, c := range map[string]struct {
		unavailable bool // the registry, when it was asked for caches
		fail        func(call int) error
		calls       int
		saved       bool
	}{
		"once more":                {false, first, 2, true},
		"not where it cannot help": {false, func(int) error { return temporaryError{false} }, 1, false},
		"not for a dead registry":  {true, first, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b := newSaving(t)
			s.found.Unavailable = c.unavailable
			b.steps, b.fail = []string{"one"}, c.fail
			saved := s.Save(t.Context(), Completed{SeparateCache: true, Stages: []CompletedStage{{Index: 0, Ran: []CompletedStep{{Line: 2, Worked: 1}}}}})
			if len(b.calls()) != c.calls || len(saved) != 1 || (saved[0].Err == nil) != c.saved || (len(s.Held()) > 0) != c.saved {
				t.Errorf("%d calls, %+v, held %v", len(b.calls()), saved, s.Held())
			}
		})
	}
}

// An export that ran out of time says so, with the tag it was for.
func TestExportOutOfTime(t *testing.T) {
	t.Parallel()
	s, b := newSaving(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	b.fail = func(int) error {
		cancel(errors.New("not done within 8.5s of the signal"))
		return temporaryError{true}
	}
	saved := s.Save(ctx, Completed{SeparateCache: true, Stages: []CompletedStage{{Index: 0, Ran: []CompletedStep{{Line: 2, Worked: 1}}}}})
	if len(saved) != 1 || saved[0].Err == nil || !strings.Contains(saved[0].Err.Error(), "not done within 8.5s") || saved[0].Ref.Tag != s.plan.Owner().PartialTag() {
		t.Errorf("got %+v", saved)
	}
}

// An engine that keeps caches inside images saves a stage when it is whole, and
// not once more at the end.
func TestCheckpointOfImages(t *testing.T) {
	t.Parallel()
	s, b := newSaving(t)
	b.images = true
	c := Completed{Stages: []CompletedStage{stage(0, 2, 1), {Index: 1, Ran: []CompletedStep{{Line: 4, Worked: 1}}}, stage(2, 6, 0)}}
	for _, partial := range []bool{false, true} {
		if err := s.checkpoint(t.Context(), c, partial); err != nil {
			t.Fatal(err)
		}
		held := []int{2}
		if partial {
			held = append(held, 4)
		}
		if diff := cmp.Diff(held, s.Held()); diff != "" {
			t.Errorf("partial=%t: %s", partial, diff)
		}
	}
	c.Success = true
	c.Stages = []CompletedStage{stage(0, 2, 1), stage(1, 4, 1), stage(2, 6, 1)}
	var tags []string
	for _, saved := range s.Save(t.Context(), c) {
		if saved.Err != nil {
			t.Errorf("%s: %v", saved.Ref, saved.Err)
		}
		tags = append(tags, saved.Ref.Tag)
	}
	if diff := cmp.Diff([]string{"feat-x-one", "one", "feat-x-two", "two", "feat-x", "latest"}, tags); diff != "" {
		t.Error(diff)
	}
	slices.Sort(b.pushed)
	if diff := cmp.Diff([]int{0, 1, 2}, b.pushed); diff != "" {
		t.Errorf("pushed, by stage: %s", diff)
	}
}
