package engine

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	bkclient "github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushStage implements Build. The image keeps a tag of its own in the
// repository, as the engine cannot push without; see stagingName.
func (b *inlineBuild) PushStage(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error) {
	id, err := b.stageImage(ctx, stage)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return b.images.pushTemporarily(ctx, id, stagingName(b.request, stage, repository))
}

// PushPartial implements Build: by a Dockerfile that is cut before the
// first step of the stage that is not complete. All that is left of it is in
// the engine's cache.
func (b *inlineBuild) PushPartial(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error) {
	whole, some, line := completeSteps(b.Steps(), stage)
	switch {
	case whole && some:
		return b.PushStage(ctx, stage, repository)
	case !some:
		return ocispec.Descriptor{}, ErrNothingComplete
	}
	source, target, err := b.request.File.CutBefore(line)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	id, err := b.export(ctx, stage, source, target)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("export what is complete of stage %s: %w", b.request.File.Stages[stage].Target(), err)
	}
	return b.images.pushTemporarily(ctx, id, stagingName(b.request, stage, repository))
}

// stageImage is the image of a completed stage. One that was a hit from the
// stage above has none yet.
func (b *inlineBuild) stageImage(ctx context.Context, stage int) (id string, err error) {
	b.mu.Lock()
	id = b.built[stage]
	b.mu.Unlock()
	if id != "" {
		return id, nil
	}
	whole, some, _ := completeSteps(b.Steps(), stage)
	if !whole || !some && !b.succeeded() || !slices.Contains(b.request.Stages, stage) {
		return "", ErrNothingComplete
	}
	source, target := b.request.File.CutAfter(stage)
	id, err = b.export(ctx, stage, source, target)
	if err != nil {
		return "", fmt.Errorf("export stage %s: %w", b.request.File.Stages[stage].Target(), err)
	}
	return id, nil
}

// export makes an image out of what the engine has in its cache; no step runs.
func (b *inlineBuild) export(ctx context.Context, stage int, source []byte, target string) (id string, err error) {
	id, err = b.solveImage(ctx, &stageSolve{stage: stage, hitsOnly: true, tracker: newTracker()}, source, target)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.loose = append(b.loose, id)
	}
	return id, err
}

// Deliver implements Build.
func (b *inlineBuild) Deliver(ctx context.Context, d Delivery) (Delivered, error) {
	if err := checkInlineOutputs(d.Outputs, b.engine.Name); err != nil {
		return Delivered{}, err
	}
	if !b.succeeded() {
		return Delivered{}, errNotBuilt
	}
	id, err := b.stageImage(ctx, b.request.Target)
	if err != nil {
		return Delivered{}, err
	}
	b.mu.Lock()
	b.keep = id
	b.mu.Unlock()
	for _, output := range d.Outputs {
		if toEngine(output) {
			continue
		}
		if err := b.output(ctx, output, d); err != nil {
			return Delivered{}, &DeliveryError{fmt.Errorf("export to %s: %w", output.Destination, err)}
		}
	}
	return b.images.deliver(ctx, id, d)
}

// output exports the files of the target: one solve each, since Docker 20.10
// drops a second exporter silently.
func (b *inlineBuild) output(ctx context.Context, o Output, d Delivery) error {
	entry := bkclient.ExportEntry{Type: o.Type, Attrs: maps.Clone(o.Attributes)}
	if o.Type == bkclient.ExporterLocal {
		entry.OutputDir = o.Destination
	} else {
		entry.Output = func(map[string]string) (io.WriteCloser, error) { return openOutput(o.Destination, d.Stdout) }
	}
	source, target := b.request.File.CutAfter(b.request.Target)
	s := &stageSolve{stage: b.request.Target, hitsOnly: true, tracker: newTracker()}
	_, err := b.solve(ctx, s, source, target, bkclient.SolveOpt{Exports: []bkclient.ExportEntry{entry}})
	return err
}
