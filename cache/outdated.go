package cache

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DeliveredImage is the image of the target where a build has pushed it.
type DeliveredImage struct {
	Repository registry.Repository
	Digest     digest.Digest
	Config     digest.Digest
}

// maxImageConfig bounds the configuration of an image that is read, in bytes.
const maxImageConfig = 1 << 20

// outdated tells whether the tag of a stage that was merely imported holds an
// image that is configured otherwise than what was delivered: a changed CMD or
// LABEL runs no step. What cannot be read or compared is left as it is.
func (s *Saver) outdated(ctx context.Context, c Completed, stage CompletedStage) bool {
	plan := s.plan.stage(stage.Index)
	if c.Delivered == nil || !c.SeparateCache || plan.Name != s.plan.Target || len(plan.Writes) == 0 {
		return false
	}
	slot := plan.Writes[0] // the nearest: what the others hold may be another branch's
	for _, tag := range s.plan.Tags(slot) {
		held := s.found.Tags[tag]
		if !held.keeps(slot) || len(held.Content.Entry.Images) != 1 {
			continue
		}
		if held.Content.Entry.Images[0].Digest == c.Delivered.Digest {
			return false
		}
		raw, _, err := s.w.Manifest(ctx, s.plan.Repository, held.Content.Entry.Images[0].Digest.String())
		var manifest ocispec.Manifest
		if err != nil || json.Unmarshal(raw, &manifest) != nil || manifest.Config.Digest == c.Delivered.Config {
			return false
		}
		kept := s.runConfig(ctx, s.plan.Repository, manifest.Config.Digest)
		delivered := s.runConfig(ctx, c.Delivered.Repository, c.Delivered.Config)
		return kept != nil && delivered != nil && !bytes.Equal(kept, delivered)
	}
	return false
}

// runConfig is what an image's configuration says of running it, nil if it
// cannot be read.
func (s *Saver) runConfig(ctx context.Context, repository registry.Repository, d digest.Digest) []byte {
	raw, err := s.w.Blob(ctx, repository, d, maxImageConfig)
	if err != nil {
		return nil
	}
	var image struct {
		Config json.RawMessage `json:"config"`
	}
	var config any
	if json.Unmarshal(raw, &image) != nil || json.Unmarshal(image.Config, &config) != nil {
		return nil
	}
	sorted, err := json.Marshal(config) // keys in one order
	if err != nil {
		return nil
	}
	return sorted
}
