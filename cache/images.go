package cache

import (
	"runtime"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// takeImages chooses for each stage the image to build it from, for engines
// that keep caches inside images alone, and returns what else was found: the
// caches of other engines, for those that can at least read them. Nothing can
// be merged into an image, so one lineage is chosen: of the nearest level that
// has one the newest, for what a build left unfinished began with what was
// finished before.
func (c *composer) takeImages(f Found) Found {
	others := f
	others.Lineages = nil
	for _, l := range f.Lineages {
		if _, ok := l.carrier(); !ok {
			others.Lineages = append(others.Lineages, l)
		}
	}
	c.view.StageImages = map[int][]string{}
	for _, stage := range c.plan.Stages {
		if chosen, image, ok := f.imageOf(stage.Name); ok {
			c.view.StageImages[stage.Index] = []string{chosen.Ref.Repository.Digested(image.Digest)}
			c.view.Lineages = append(c.view.Lineages, chosen)
		}
	}
	return others
}

// imageOf chooses the image of a stage.
func (f Found) imageOf(stage string) (chosen Lineage, image ocispec.Descriptor, ok bool) {
	for _, l := range f.Of(stage) {
		carrier, carries := l.carrier()
		if carries && (!ok || l.Level == chosen.Level && l.newer(chosen)) {
			chosen, image, ok = l, carrier, true
		}
	}
	return chosen, image, ok
}

// carrier is the image at a lineage's tag that may hold the cache itself.
func (l Lineage) carrier() (image ocispec.Descriptor, ok bool) {
	switch l.Content.Kind {
	case registry.KindImage:
		return l.Root, true
	case registry.KindEntry:
		if l.Content.Entry.Cache == nil {
			return nearestPlatform(l.Content.Entry.Images)
		}
	case registry.KindIndex:
		return nearestPlatform(l.Content.Children)
	}
	return image, false
}

// nearestPlatform is the image for this machine's architecture, which is that
// of the engine more often than not, else the first.
func nearestPlatform(images []ocispec.Descriptor) (image ocispec.Descriptor, ok bool) {
	for _, image := range images {
		if p := image.Platform; p != nil && p.OS == "linux" && p.Architecture == runtime.GOARCH {
			return image, true
		}
	}
	if len(images) == 0 {
		return image, false
	}
	return images[0], true
}

// newer tells whether l was written after another lineage; one that does not
// say when is older.
func (l Lineage) newer(other Lineage) bool {
	if l.Content.Kind != registry.KindEntry || other.Content.Kind != registry.KindEntry {
		return l.Content.Kind == registry.KindEntry
	}
	return l.written().After(other.written())
}

// written is when the entry of l was written, zero if it says none or one that
// has not come: what a machine with a wrong clock left behind would be the
// newest for years.
func (l Lineage) written() time.Time {
	if created := l.Content.Entry.Annotations.Created; !created.After(time.Now()) {
		return created
	}
	return time.Time{}
}
