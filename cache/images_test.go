package cache

import (
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Of two images that carry the cache of a stage the newer is taken, unless it
// claims to be of a time that has not come.
func TestNewestImage(t *testing.T) {
	t.Parallel()
	hour := func(hours int) time.Time { return time.Now().Add(time.Duration(hours) * time.Hour) }
	for name, c := range map[string]struct {
		whole, partial time.Time
		want           string
	}{
		"left unfinished since":             {hour(-2), hour(-1), "partial"},
		"finished since":                    {hour(-1), hour(-2), "whole"},
		"left unfinished by a wrong clock":  {hour(-1), hour(24 * 365), "whole"},
		"finished by a wrong clock":         {hour(24 * 365), hour(-1), "partial"},
		"all clocks are wrong":              {hour(24), hour(48), "whole"},
		"nothing says when, but the latter": {time.Time{}, hour(-1), "partial"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lineage := func(image string, created time.Time) Lineage {
				return Lineage{Level: LevelBranch, Slot: Slot{Stage: "app"}, Content: registry.Content{Kind: registry.KindEntry, Entry: &registry.Entry{
					Images:      []ocispec.Descriptor{{Digest: digest.FromString(image)}},
					Annotations: registry.Annotations{Created: created},
				}}}
			}
			f := Found{Lineages: []Lineage{lineage("whole", c.whole), lineage("partial", c.partial)}}
			if _, image, ok := f.imageOf("app"); !ok || image.Digest != digest.FromString(c.want) {
				t.Errorf("taken is not the %s one", c.want)
			}
		})
	}
}
