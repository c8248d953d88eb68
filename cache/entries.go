package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stage writes the entry of one whole stage to slots, unless there is none for
// an error.
func (s *Saver) stage(ctx context.Context, plan StagePlan, slots []Slot, entry registry.Entry, err error) {
	saved := make([]Saved, len(slots))
	var puts sync.WaitGroup
	for i, slot := range slots {
		saved[i] = Saved{Stage: plan.Name, Ref: s.plan.Repository.Tagged(s.plan.Tags(slot)[0]), Err: err}
		if err == nil {
			puts.Go(func() { saved[i].Ref, saved[i].Note, saved[i].Err = s.put(ctx, slot, entry) })
		}
	}
	puts.Wait()
	for _, one := range saved {
		s.tell(one)
	}
}

// entry pushes the stage's image and describes it.
func (s *Saver) entry(ctx context.Context, plan StagePlan, merelyImported bool) (registry.Entry, error) {
	image := ocispec.Descriptor{}
	imported, found, ok := s.found.imageOf(plan.Name)
	switch {
	case plan.Name == s.plan.Target && s.pushed != nil:
		image = *s.pushed
	case s.plan.CacheInImages && merelyImported && ok && found.Platform != nil && imported.Ref.Repository == s.plan.Repository:
		// What the engine would make of it again may hold less of the cache.
		image = found
	default:
		var err error
		err = s.persistently(ctx, func() error {
			image, err = s.b.PushStage(ctx, plan.Index, s.plan.Repository.String())
			return err
		})
		if err != nil {
			return registry.Entry{}, fmt.Errorf("push stage %s: %w", plan.Name, err)
		}
	}
	entry := registry.Entry{}
	if image.MediaType != ocispec.MediaTypeImageIndex {
		entry.Images = []ocispec.Descriptor{image}
		return entry, nil
	}
	// Several platforms: the entry lists them itself.
	raw, root, err := s.w.Manifest(ctx, s.plan.Repository, image.Digest.String())
	if err != nil {
		return entry, err
	}
	content, err := registry.Classify(raw, root.MediaType)
	if err != nil {
		return entry, err
	}
	entry.Images = content.Children
	return entry, nil
}

// partialImage writes what is complete of a stage that is not whole, as an
// image that carries its cache, to the partial tag of a slot. The next build
// takes it for as long as it is newer than the slot's own.
func (s *Saver) partialImage(ctx context.Context, plan StagePlan, slot Slot) {
	saved := Saved{Stage: plan.Name, Ref: s.plan.Repository.Tagged(slot.PartialTag()), Partial: true}
	var image ocispec.Descriptor
	saved.Err = s.persistently(ctx, func() (err error) {
		image, err = s.b.PushPartial(ctx, plan.Index, s.plan.Repository.String())
		return err
	})
	if saved.Err == nil {
		saved.Err = s.write(ctx, saved.Ref.Tag, slot, registry.Entry{Images: []ocispec.Descriptor{image}})
	}
	s.tell(saved)
}

// write writes an entry to a tag, as the slot's.
func (s *Saver) write(ctx context.Context, tag string, slot Slot, entry registry.Entry) error {
	entry.Annotations = slot.Annotations()
	entry.Annotations.Branch = cmp.Or(slot.Branch, s.plan.Branch.Name)
	entry.Annotations.Trust = string(cmp.Or(s.plan.Origin.Trust, TrustOwn))
	entry.Annotations.Times = s.times[slot.Stage].String()
	entry.Annotations.Conditions = s.plan.Conditions.record()
	entry.Annotations.ToolVersion = s.version
	entry.Annotations.Created = time.Now()
	raw, err := entry.Encode()
	if err == nil {
		_, err = s.w.PutManifest(ctx, s.plan.Repository, tag, raw, ocispec.MediaTypeImageIndex)
	}
	return err
}

// put writes an entry to the first of the slot's tags that is the slot's to
// move. It asks right before, since other builds write too.
func (s *Saver) put(ctx context.Context, slot Slot, entry registry.Entry) (ref registry.Image, note string, err error) {
	tags := s.plan.Tags(slot)
	if plain, _ := slot.Tags(); tags[0] != plain {
		note = plain + " is named as an image by this build"
	}
	for _, tag := range tags {
		ref = s.plan.Repository.Tagged(tag)
		holder, err := s.holder(ctx, tag, slot)
		if err != nil {
			return ref, "", err
		}
		if holder != "" {
			note = fmt.Sprintf("%s holds %s", tag, holder)
			continue
		}
		return ref, note, s.write(ctx, tag, slot, entry)
	}
	return ref, "", fmt.Errorf("not moved: %s", note)
}

// holder names what stands at a tag and is not the slot's own, "" for
// nothing.
func (s *Saver) holder(ctx context.Context, tag string, slot Slot) (string, error) {
	root, err := s.w.Head(ctx, s.plan.Repository, tag)
	if errors.Is(err, registry.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	held, known := s.found.Tags[tag]
	if !known || held.Root.Digest != root.Digest {
		raw, root, err := s.w.Manifest(ctx, s.plan.Repository, root.Digest.String())
		if err != nil {
			return "", err
		}
		content, err := registry.Classify(raw, root.MediaType)
		if err != nil {
			return fmt.Sprintf("something else (%v)", err), nil
		}
		held = Tagged{Root: root, Content: content}
	}
	switch {
	case held.keeps(slot):
		return "", nil
	case held.Content.Foreign():
		return "an image that is no cache of this tool", nil
	default:
		return "the cache of " + describe(held.Content.Entry.Annotations), nil
	}
}

// describe names the identity that annotations tell, for people.
func describe(a registry.Annotations) string {
	stage := "stage " + a.Stage
	if a.Final {
		stage = "the final stage"
	}
	if a.Level == registry.LevelUnprefixed {
		return stage + " without a branch"
	}
	return stage + " of branch " + a.Branch
}
