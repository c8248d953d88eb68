package cache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Writer is what saving asks of a registry.
type Writer interface {
	Reader
	Head(ctx context.Context, r registry.Repository, tagOrDigest string) (ocispec.Descriptor, error)
	PutManifest(ctx context.Context, r registry.Repository, tagOrDigest string, raw []byte, mediaType string) (ocispec.Descriptor, error)
}

// Exporter is what saving asks of a build: to hand over what it completed.
type Exporter interface {
	ExportCache(ctx context.Context, ref string, stages ...int) (ocispec.Descriptor, error)
	PushStage(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error)
	PushPartial(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error)
}

// Completed is what a build completed.
type Completed struct {
	Success bool
	// Hurry says that there may not be time to save all of it.
	Hurry  bool
	Stages []CompletedStage
	// SeparateCache says that the engine exports a cache beside the images,
	// not inside them.
	SeparateCache bool
	// Pushed is the image of the target where it has been pushed to the cache
	// repository already.
	Pushed *ocispec.Descriptor
	// Delivered is the image of the target, nil if it was not pushed or the
	// engine does not tell its configuration.
	Delivered *DeliveredImage
}

// CompletedStage is what a build completed of one stage.
type CompletedStage struct {
	Index int
	Whole bool            // every step has a result
	Ran   []CompletedStep // those that ran and were not found in a cache
	Steps []StepTime      // all of them
}

// StepTime is how long a step ran, 0 for one that was found in a cache.
type StepTime struct {
	Instruction string
	Worked      time.Duration
}

// CompletedStep is a step that ran.
type CompletedStep struct {
	Line   int // the first, in the Dockerfile
	Worked time.Duration
}

func (c CompletedStage) isNew() bool { return len(c.Ran) > 0 }

// whole counts the whole stages.
func (c Completed) whole() int {
	n := 0
	for _, stage := range c.Stages {
		if stage.Whole {
			n++
		}
	}
	return n
}

// Saved is one cache that was written, or why not.
type Saved struct {
	Stage string
	Ref   registry.Image
	// Partial says that the stage is not whole; another build resumes it.
	Partial bool
	// Note says why it is not where people would look for it.
	Note string
	Err  error
}

// maxPushes bounds the images that are pushed at once: they share the link
// and the daemon's processors.
const maxPushes = 4

// Saver writes what one build completes. Its methods that write are called one
// after the other.
type Saver struct {
	w       ReadWriter
	b       Exporter
	plan    Plan
	found   Found
	version string

	held     map[int]bool        // steps, by line, whose results a tag of this run holds
	partial  *ocispec.Descriptor // what this run last exported to the partial tag
	cache    *ocispec.Descriptor // what entries refer to; nil where images carry their cache
	pushed   *ocispec.Descriptor
	times    map[string]times // of the steps, by stage
	written  map[int][]Saved  // whole stages that a checkpoint has written for good
	mu       sync.Mutex
	saved    []Saved
	warnings []string
}

// NewSaver makes the saver of a build; version is that of this program.
func NewSaver(w ReadWriter, b Exporter, p Plan, f Found, version string) *Saver {
	return &Saver{w: w, b: b, plan: p, found: f, version: version, held: map[int]bool{}, written: map[int][]Saved{}}
}

// Save writes what the build completed: the cache of every completed step,
// the images of whole stages, and last the tags that refer to both. A stage
// that was merely imported is written only where it is not kept yet, or where
// the image is another for all that. Errors are
// told, one by one; none of them is an error of the build.
func (s *Saver) Save(ctx context.Context, c Completed) []Saved {
	due := map[int][]Slot{}
	for _, stage := range c.Stages {
		slots := s.due(c, stage)
		if len(slots) == 0 && c.Success && s.writes(c) && s.outdated(ctx, c, stage) {
			slots = s.plan.stage(stage.Index).Writes
		}
		if len(slots) > 0 {
			due[stage.Index] = slots
		}
	}
	if len(due) == 0 && !slices.ContainsFunc(c.Stages, CompletedStage.isNew) || !s.writes(c) {
		return nil
	}
	s.saved = nil
	tag := newPromotion(s.w, s.plan, s.found)
	exported := s.plan.Repository.Tagged(s.plan.Owner().PartialTag())
	if c.Success {
		exported = s.plan.Repository.Tagged(s.plan.Owner().CacheExportTag())
	}
	s.pushed = c.Pushed
	s.noteTimes(c)
	export := sync.OnceValue(func() error { return s.exportAll(ctx, c, tag) })
	var lost error
	if !c.Success || !s.uploaded(c, due) {
		// First, as there may be no time for the rest, and as an engine that
		// pushes a layer for both at once uploads it twice.
		lost = export()
	}
	group := errgroup.Group{}
	group.SetLimit(maxPushes)
	group.Go(export)
	for _, stage := range c.Stages {
		plan := s.plan.stage(stage.Index)
		switch {
		case len(due[stage.Index]) == 0:
		case lost != nil:
			s.tell(Saved{Stage: plan.Name, Ref: exported, Partial: !stage.Whole, Err: lost})
		case s.written[stage.Index] != nil:
			for _, saved := range s.written[stage.Index] {
				s.tell(saved)
			}
		case stage.Whole:
			group.Go(func() error {
				entry, err := s.entry(ctx, plan, !stage.isNew())
				if err := export(); err != nil {
					s.tell(Saved{Stage: plan.Name, Ref: exported, Err: err})
					return nil
				}
				entry.Cache = s.cache
				s.stage(ctx, plan, due[stage.Index], entry, err)
				return nil
			})
		case c.SeparateCache:
			s.tell(Saved{Stage: plan.Name, Ref: exported, Partial: true})
		default:
			group.Go(func() error { s.partialImage(ctx, plan, due[stage.Index][0]); return nil })
		}
	}
	if group.Wait() == nil && c.Success {
		group.Go(func() error { s.supersedePartial(ctx); return nil })
		group.Go(func() error { s.endTogether(ctx, tag); return nil })
		group.Wait()
	}
	order := map[string]int{}
	for i, stage := range s.plan.Stages {
		order[stage.Name] = i
	}
	slices.SortStableFunc(s.saved, func(a, b Saved) int { return order[a.Stage] - order[b.Stage] })
	return s.saved
}

// uploaded tells whether the registry has the layers of all stages that are due,
// by a checkpoint or as the image that was delivered.
func (s *Saver) uploaded(c Completed, due map[int][]Slot) bool {
	return !slices.ContainsFunc(c.Stages, func(stage CompletedStage) bool {
		if len(due[stage.Index]) == 0 || s.pushed != nil && s.plan.stage(stage.Index).Name == s.plan.Target {
			return false
		}
		return slices.ContainsFunc(stage.Ran, func(step CompletedStep) bool { return !s.held[step.Line] })
	})
}

// noteTimes notes how long the steps took, for the entries.
func (s *Saver) noteTimes(c Completed) {
	s.times = map[string]times{}
	for _, stage := range c.Stages {
		name := s.plan.stage(stage.Index).Name
		s.times[name] = s.timesOf(stage, name)
	}
}

// writes tells whether a build that completed so much is saved at all.
func (s *Saver) writes(c Completed) bool {
	return s.plan.Writes() && (s.plan.Save != SaveOnSuccess || c.Success)
}

// exportAll exports the cache of everything that is complete.
func (s *Saver) exportAll(ctx context.Context, c Completed, tag *promotion) error {
	if !c.SeparateCache {
		return nil
	}
	if !c.Success {
		desc, err := s.savePartial(ctx, c)
		s.cache = &desc
		return err
	}
	desc, err := s.export(ctx, s.plan.Owner().StagingTag())
	if err == nil {
		desc, _, err = tag.place(ctx, desc) // endTogether sees whether it stays
	}
	s.cache = &desc
	if err == nil {
		s.hold(c, nil)
		if err := announceScope(ctx, s.w, s.plan, s.found); err != nil {
			s.warn("other scopes will not find this one's cache: %v", err)
		}
	}
	return err
}

// hold notes which steps' results a tag holds now: those of some stages, of
// all for nil.
func (s *Saver) hold(c Completed, stages []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stage := range c.Stages {
		if stages != nil && !slices.Contains(stages, stage.Index) {
			continue
		}
		for _, step := range stage.Ran {
			s.held[step.Line] = true
		}
	}
}

// Held are the lines of the steps whose results a cache that this run wrote
// has, ascending. It may be called at any time.
func (s *Saver) Held() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.held))
}

// Warnings are what went wrong beside what Save tells.
func (s *Saver) Warnings() []string { return s.warnings }

func (s *Saver) warn(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.warnings, text) {
		s.warnings = append(s.warnings, text)
	}
}

func (s *Saver) tell(saved Saved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = append(s.saved, saved)
}

// due are the slots of a stage that are to be written, the branch's first: all
// of them if steps of it ran. What a successful build merely imported goes to
// those that keep no cache of their own yet, as a new branch's do: the caches
// it came from are others' to move on.
func (s *Saver) due(c Completed, stage CompletedStage) []Slot {
	writes := s.plan.stage(stage.Index).Writes
	switch {
	case stage.isNew():
		return writes
	case !c.Success:
		return nil
	}
	return slices.DeleteFunc(slices.Clone(writes), func(slot Slot) bool {
		return slices.ContainsFunc(s.plan.Tags(slot), func(tag string) bool { return s.found.Tags[tag].keeps(slot) })
	})
}

// supersedePartial makes the owner's partial tag, where there is one, refer to
// the complete export: the next look-up reads one cache less. Registries need
// not allow deletion, so the tag is moved instead.
func (s *Saver) supersedePartial(ctx context.Context) {
	tag := s.plan.Owner().PartialTag()
	held, exists := s.found.Tags[tag]
	if s.cache == nil || s.partial == nil && (!exists || held.Root.Digest == s.cache.Digest) {
		return
	}
	raw, root, err := s.w.Manifest(ctx, s.plan.Repository, s.cache.Digest.String())
	if err == nil {
		_, err = s.w.PutManifest(ctx, s.plan.Repository, tag, raw, root.MediaType)
	}
	if err != nil {
		s.tell(Saved{Ref: s.plan.Repository.Tagged(tag), Err: err})
	}
}
