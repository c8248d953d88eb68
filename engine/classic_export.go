package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Steps implements Build.
func (b *classicBuild) Steps() []Step {
	b.mu.Lock()
	defer b.mu.Unlock()
	byLine := map[int]Step{}
	for _, stage := range b.request.Stages {
		for _, in := range b.request.File.Stages[stage].Instructions {
			if in.Step() {
				byLine[in.Lines.First] = Step{Stage: stage, Line: in.Lines.First, Instruction: in.Text, Status: Pending}
			}
		}
	}
	for _, step := range b.left.Steps {
		byLine[step.Line] = step
	}
	for _, s := range b.solves {
		s.each(func(seen Step) { byLine[seen.Line] = seen })
	}
	steps := make([]Step, 0, len(byLine))
	for _, line := range slices.Sorted(maps.Keys(byLine)) {
		steps = append(steps, byLine[line])
	}
	return steps
}

// stageImages are the ids of the finished stages' images, by stage.
func (b *classicBuild) stageImages() map[int]string {
	ids := map[int]string{}
	for _, image := range b.left.Images {
		if image.Whole {
			ids[image.Stage] = image.ID
		}
	}
	for _, s := range b.solves {
		for _, image := range s.stream.images {
			stage, _, ok := s.locate(image.step)
			if !ok { // the step for the labels
				stage = s.stage
			}
			if s.stands[stage] == "" {
				ids[stage] = image.id
			}
		}
	}
	return ids
}

// PushStage implements Build. The image keeps a tag of its own in the
// repository, as the engine cannot push without; see stagingName.
func (b *classicBuild) PushStage(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error) {
	b.mu.Lock()
	id := b.stageImages()[stage]
	b.mu.Unlock()
	if id == "" {
		return ocispec.Descriptor{}, ErrNothingComplete
	}
	return b.images.pushTemporarily(ctx, id, stagingName(b.request, stage, repository))
}

// PushPartial implements Build: every step's result is an image.
func (b *classicBuild) PushPartial(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error) {
	whole, some, _ := completeSteps(b.Steps(), stage)
	if whole && some {
		return b.PushStage(ctx, stage, repository)
	}
	id := b.partialImage(stage)
	if !some || id == "" {
		return ocispec.Descriptor{}, ErrNothingComplete
	}
	return b.images.pushTemporarily(ctx, id, stagingName(b.request, stage, repository))
}

// partialImage is the result of the last step that a stage has got to.
func (b *classicBuild) partialImage(stage int) (id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, image := range b.left.Images {
		if image.Stage == stage {
			id = image.ID
		}
	}
	for _, s := range b.solves {
		for i, step := range s.stream.steps {
			if in, index, ok := s.locate(i + 1); ok && in == stage && s.stands[in] == "" && index >= 0 && step.image != "" {
				id = step.image
			}
		}
	}
	return id
}

// Snapshot implements Resumable.
func (b *classicBuild) Snapshot() (Snapshot, bool) {
	s := snapshotOf(b.Steps(), b.ended, &b.outcome)
	b.mu.Lock()
	whole := b.stageImages()
	b.mu.Unlock()
	for _, stage := range b.request.Stages {
		if id := whole[stage]; id != "" {
			s.Images = append(s.Images, ImageSnapshot{Stage: stage, ID: id, Whole: true})
		} else if id := b.partialImage(stage); id != "" {
			s.Images = append(s.Images, ImageSnapshot{Stage: stage, ID: id})
		}
	}
	return s, true
}

// Deliver implements Build.
func (b *classicBuild) Deliver(ctx context.Context, d Delivery) (Delivered, error) {
	for _, output := range d.Outputs {
		if !toEngine(output) {
			return Delivered{}, &UnsupportedError{Option: "--output type=" + output.Type, Engine: b.engine.Name, Remedy: "use --push or --load"}
		}
	}
	select {
	case <-b.ended:
	default:
		return Delivered{}, errNotBuilt
	}
	if b.outcome.Result != OK {
		return Delivered{}, errNotBuilt
	}
	b.mu.Lock()
	id := b.stageImages()[b.request.Target]
	b.mu.Unlock()
	delivered, err := b.images.deliver(ctx, id, d)
	if err == nil && len(d.Names) > 0 {
		b.mu.Lock()
		b.keeper = d.Names[0]
		b.mu.Unlock()
	}
	return delivered, err
}

// Close implements Build.
func (b *classicBuild) Close() error {
	b.closeOnce.Do(func() {
		b.stop()
		<-b.ended
		b.heartbeat.stop()
		if err := b.images.clean(b.imageThatStays()); err != nil {
			b.closeErr = fmt.Errorf("clean up after the build: %w", err)
		}
	})
	return b.closeErr
}

// imageThatStays names an image in the store that is not this build's to
// remove, "" when none is known: what was delivered, or a base image. None of
// the pulled caches, which would lose their digest with a name that is taken
// away in the same repository.
func (b *classicBuild) imageThatStays() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := []string{b.keeper}
	for _, stage := range b.request.Stages {
		names = append(names, b.request.File.Stages[stage].Images...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	for _, name := range names {
		if name == "" {
			continue
		}
		if _, err := b.images.docker.ImageInspect(ctx, name); err == nil {
			return name
		}
	}
	return ""
}
