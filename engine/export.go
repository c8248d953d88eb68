package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/gateway/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// How layers are compressed. Images are gzip, which every engine can run;
// layers that only a cache holds are zstd, which costs a fifth of the time to
// write and to read. It is BuildKit's own level: with a lower one layers are
// larger and take longer to unpack. Blobs that exist keep their form, so an
// image is pushed before the cache that shares its layers.
const (
	imageCompression = "gzip"
	cacheCompression = "zstd"
)

// concurrently runs a further build, with a Dockerfile if it plans anything,
// beside the open one and returns the exporters' response.
func (b *solveBuild) concurrently(ctx context.Context, dockerfile []byte, opt bkclient.SolveOpt, build client.BuildFunc) (map[string]string, error) {
	session, err := b.sender.solveOpt(dockerfile)
	if err != nil {
		return nil, err
	}
	opt.FrontendAttrs, opt.LocalMounts, opt.SharedKey = session.FrontendAttrs, session.LocalMounts, session.SharedKey
	opt.Session, opt.AllowedEntitlements = session.Session, session.AllowedEntitlements
	stream := make(chan *bkclient.SolveStatus)
	show := b.display.exports()
	ctx, runs := b.guard(ctx)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for status := range stream {
			runs(status)
			show(status)
		}
	}()
	response, err := b.engine.client.Build(ctx, opt, product, build, stream)
	<-shown
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrLost) {
			return nil, cause
		}
		return nil, err
	}
	return response.ExporterResponse, nil
}

// exportImage exports one stage as an image. The stage is planned for its
// configuration only; the content is that of the main build's definition, so
// that the context is not sent again.
func (b *solveBuild) exportImage(ctx context.Context, stage int, opt bkclient.SolveOpt) (map[string]string, error) {
	dockerfile, target := b.request.File.CutAfter(stage)
	return b.concurrently(ctx, dockerfile, opt, func(ctx context.Context, gw client.Client) (*client.Result, error) {
		result, err := gw.Solve(ctx, frontendRequest(gw, target))
		if err != nil {
			return nil, err
		}
		for _, g := range b.graphs {
			end, ok := g.ends[stage]
			if !ok {
				continue // scratch without a step
			}
			solved, err := gw.Solve(ctx, client.SolveRequest{Definition: g.graph.sub(end), Evaluate: true})
			if err != nil {
				return nil, err
			}
			if g.id == "" {
				result.SetRef(solved.Ref)
			} else {
				result.Refs[g.id] = solved.Ref
			}
		}
		return result, nil
	})
}

// PushStage implements Build.
func (b *solveBuild) PushStage(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error) {
	select {
	case <-b.planned:
	default:
		return ocispec.Descriptor{}, ErrNothingComplete
	}
	if !b.stageComplete(stage) {
		return ocispec.Descriptor{}, ErrNothingComplete
	}
	response, err := b.exportImage(ctx, stage, bkclient.SolveOpt{Exports: []bkclient.ExportEntry{{
		Type: bkclient.ExporterImage,
		Attrs: map[string]string{
			"name": repository, "push": "true", "push-by-digest": "true", "store": "false",
			"oci-mediatypes": "true", "compression": b.compression(stage),
		},
	}}})
	if err != nil {
		return ocispec.Descriptor{}, &ExportError{"push image", err}
	}
	return imageDescriptor(response)
}

// compression is that of a stage's layers, whichever of its image and the cache
// is written first.
func (b *solveBuild) compression(stage int) string {
	for _, g := range b.graphs {
		if g.inImage(stage, b.request.Target) {
			return imageCompression
		}
	}
	return cacheCompression
}

// inImage tells whether a stage's layers are layers of the target's image.
func (g platformGraph) inImage(stage, target int) bool {
	end, ok := g.ends[stage]
	if !ok {
		return true // scratch: there are none
	}
	found := false
	if top, ok := g.ends[target]; ok {
		g.graph.walkLayers(top, func(e edge) bool {
			found = found || e == end
			return !found
		})
	}
	return found
}

// PushPartial implements Build: ExportCache has what is complete.
func (b *solveBuild) PushPartial(context.Context, int, string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrSeparateCache
}

// Deliver implements Build.
func (b *solveBuild) Deliver(ctx context.Context, d Delivery) (Delivered, error) {
	var opt bkclient.SolveOpt
	nowhere := !d.Push && len(d.Outputs) == 0
	if nowhere && b.engine.docker != nil && !d.Discard {
		// A Docker Engine keeps what docker build builds on it.
		d.Outputs = []Output{{Type: bkclient.ExporterDocker}}
	}
	if d.Push || nowhere && b.engine.docker == nil && d.Identify {
		attrs := map[string]string{
			"name": strings.Join(d.Names, ","), "push": strconv.FormatBool(d.Push), "store": "false",
			// Forced, since layers may come from a cache that knew them as
			// those of another stage.
			"oci-mediatypes": "true", "compression": imageCompression, "force-compression": "true",
		}
		annotate(attrs, b.request.Options.Annotations)
		opt.Exports = append(opt.Exports, bkclient.ExportEntry{Type: bkclient.ExporterImage, Attrs: attrs})
	}
	var loads []func() error
	finish := func(err error) error {
		for _, done := range loads {
			err = errors.Join(err, done())
		}
		return err
	}
	for _, output := range d.Outputs {
		entry, done, err := b.exportEntry(ctx, output, d)
		if err != nil {
			finish(nil) // what was to be loaded ends before it has begun
			return Delivered{}, err
		}
		opt.Exports = append(opt.Exports, entry)
		if done != nil {
			loads = append(loads, done)
		}
	}
	for _, spec := range d.CacheTo {
		opt.CacheExports = append(opt.CacheExports, bkclient.CacheOptionsEntry{Type: spec.Type, Attrs: maps.Clone(spec.Attributes)})
	}
	if len(opt.Exports)+len(opt.CacheExports) == 0 {
		return Delivered{}, nil
	}
	response, err := b.exportImage(ctx, b.request.Target, opt)
	if err := finish(err); err != nil {
		return Delivered{}, &DeliveryError{err}
	}
	delivered := Delivered{Metadata: response, ImageID: response[exptypes.ExporterImageConfigDigestKey]}
	if digest := response[exptypes.ExporterImageDigestKey]; d.Push {
		delivered.Digest = digest
	}
	if delivered.ImageID == "" {
		delivered.ImageID = response[exptypes.ExporterImageDigestKey]
	}
	return delivered, nil
}

// annotate adds annotations to the attributes of an exporter: annotation.KEY,
// with the part and the platform where they are named
// (moby/buildkit exporter/containerimage/exptypes/annotations.go).
func annotate(attrs map[string]string, annotations []Annotation) {
	for _, a := range annotations {
		name := "annotation"
		if a.Part != "" && a.Part != "manifest" {
			name += "-" + a.Part
		}
		if a.Platform != "" {
			name += "[" + a.Platform + "]"
		}
		attrs[name+"."+a.Key] = a.Value
	}
}

// exportEntry is one --output as BuildKit's client takes it. done, where it is
// not nil, waits for what receives the export.
func (b *solveBuild) exportEntry(ctx context.Context, o Output, d Delivery) (entry bkclient.ExportEntry, done func() error, err error) {
	entry = bkclient.ExportEntry{Type: o.Type, Attrs: maps.Clone(o.Attributes)}
	if entry.Attrs == nil {
		entry.Attrs = map[string]string{}
	}
	if o.Type != bkclient.ExporterLocal && o.Type != bkclient.ExporterTar && entry.Attrs["name"] == "" {
		entry.Attrs["name"] = strings.Join(d.Names, ",")
	}
	annotate(entry.Attrs, b.request.Options.Annotations)
	switch o.Type {
	case bkclient.ExporterLocal:
		entry.OutputDir = o.Destination
	case bkclient.ExporterDocker:
		if o.Destination == "" {
			return b.engine.loadEntry(ctx, entry.Attrs["name"])
		}
		fallthrough
	case bkclient.ExporterTar, bkclient.ExporterOCI:
		entry.Output = func(map[string]string) (io.WriteCloser, error) { return openOutput(o.Destination, d.Stdout) }
	case bkclient.ExporterImage:
	case "registry":
		entry.Type, entry.Attrs["push"] = bkclient.ExporterImage, "true"
	default:
		return entry, nil, &UnsupportedError{Option: "--output type=" + o.Type, Engine: "BuildKit", Remedy: "use local, tar, oci, docker, image or registry"}
	}
	return entry, nil, nil
}

// imageDescriptor reads the pushed manifest's descriptor from an exporter's
// response.
func imageDescriptor(response map[string]string) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	raw, err := base64.StdEncoding.DecodeString(response[exptypes.ExporterImageDescriptorKey])
	if err == nil {
		err = json.Unmarshal(raw, &desc)
	}
	if err != nil {
		return desc, fmt.Errorf("push image: read the engine's answer: %w", err)
	}
	return desc, nil
}
