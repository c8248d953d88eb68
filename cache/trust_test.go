package cache_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

const trustDockerfile = "FROM scratch AS builder\nCOPY a /\nFROM scratch\nCOPY b /\n"

func trustRequest(t *testing.T, change func(*cache.Request)) cache.Request {
	t.Helper()
	file, err := stages.Parse([]byte(trustDockerfile), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	image := mustImage(t, "ghcr.io/acme/app:1")
	r := cache.Request{
		Image: image, Push: true, Repository: image.Repository,
		File: file, Stages: []int{0, 1}, Target: 1,
		Branch: cache.Branch{Name: "feat"}, DefaultBranch: cache.Branch{Name: "master"},
		Origin: cache.Origin{Trust: cache.TrustOwn, Reason: "not a pull request"},
		Save:   cache.SaveAlways, Unprefixed: cache.UnprefixedAlways,
	}
	change(&r)
	return r
}

func mustImage(t *testing.T, name string) registry.Image {
	t.Helper()
	image, err := registry.ParseImage(name)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// plainTags are those that a plan writes, each once.
func plainTags(p cache.Plan) []string {
	tags := []string{}
	for _, stage := range p.Stages {
		for _, slot := range stage.Writes {
			plain, _ := slot.Tags()
			tags = append(tags, plain)
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// The rule of trust, a row for each kind of build (docs/trust.md has the same
// table).
func TestWhatABuildMayWrite(t *testing.T) {
	t.Parallel()
	branchAndUnprefixed := []string{"builder", "feat", "feat-builder", "latest"}
	unprefixed := []string{"builder", "latest"}
	pull := func(r *cache.Request) { r.Origin.PullRequest = true }
	for _, test := range []struct {
		name   string
		change func(*cache.Request)
		writes []string
		owner  string
		skips  []string // a part of each
	}{
		{"own branch", func(*cache.Request) {}, branchAndUnprefixed, "feat", nil},
		{"own pull request", pull, branchAndUnprefixed, "feat", nil},
		{"own pull request, unprefixed by the default branch only", func(r *cache.Request) {
			pull(r)
			r.Unprefixed = cache.UnprefixedDefaultBranch
		}, []string{"feat", "feat-builder"}, "feat", []string{"unprefixed tags"}},
		{"default branch", func(r *cache.Request) { r.Branch.Name = "master" },
			[]string{"builder", "latest", "master", "master-builder"}, "master", nil},
		{"own pull request from a branch called like the default branch", func(r *cache.Request) {
			pull(r)
			r.Branch.Name, r.BaseBranch.Name = "master", "release"
		}, []string{}, "", []string{"saving caches: pull request whose branch is called like the default branch (master): cache is read-only"}},
		{"pull request from a branch called like its base", func(r *cache.Request) {
			pull(r)
			r.Branch.Name, r.BaseBranch.Name = "release", "release"
		}, []string{}, "", []string{"called like its base (release)"}},
		{"fork", func(r *cache.Request) {
			pull(r)
			r.Origin.Trust, r.Origin.Reason = cache.TrustFork, "the pull request comes from another repository (stranger/app)"
		}, []string{}, "", []string{"saving caches: fork: cache is read-only: the pull request comes from another repository (stranger/app)"}},
		{"fork whose branch is called like the default branch", func(r *cache.Request) {
			pull(r)
			r.Origin.Trust, r.Branch.Name = cache.TrustFork, "master"
		}, []string{}, "", []string{"saving caches: fork: cache is read-only"}},
		{"fork taken for own, whose branch is called like the default branch", func(r *cache.Request) {
			pull(r)
			r.Origin.Trust, r.Branch.Name = cache.TrustOwn, "master"
		}, []string{}, "", []string{"called like the default branch"}},
		{"unknown origin", func(r *cache.Request) { r.Origin.Trust = cache.TrustUnknown },
			[]string{}, "", []string{"saving caches: unknown origin: cache is read-only"}},
		{"a trust that this version does not know", func(r *cache.Request) { r.Origin.Trust = "partner" },
			[]string{}, "", []string{"saving caches: unknown origin: cache is read-only"}},
		{"merge queue", func(r *cache.Request) {
			r.Branch.Name, r.BaseBranch.Name = "gh-readonly-queue/master/pr-1-abc", "master"
			r.Origin.MergeQueue = true
		}, unprefixed, "", []string{"branch tags: the branch of a merge queue is gone after the build"}},
		{"tag", func(r *cache.Request) { r.Branch = cache.Branch{From: "a tag (v1) is built"} },
			unprefixed, "", []string{"branch tags: the branch is unknown: a tag (v1) is built"}},
		{"no rights", func(r *cache.Request) { r.ReadOnly = "no rights" }, []string{}, "", []string{"saving caches: no rights"}},
		{"never", func(r *cache.Request) { r.Save = cache.SaveNever }, []string{}, "", []string{"saving caches: --cache-save=never"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := cache.NewPlan(trustRequest(t, test.change))
			if diff := cmp.Diff(test.writes, plainTags(p)); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if p.Writes() != (len(test.writes) > 0) {
				t.Errorf("Writes() = %v", p.Writes())
			}
			if p.Owner().Branch != test.owner {
				t.Errorf("exports belong to %q, want %q", p.Owner().Branch, test.owner)
			}
			for i, want := range test.skips {
				if i >= len(p.Skips) || !strings.Contains(p.Skips[i].What+": "+p.Skips[i].Reason, want) {
					t.Errorf("skips = %v, want %q", p.Skips, want)
				}
			}
			if len(p.Skips) != len(test.skips) {
				t.Errorf("skips = %v, want %d", p.Skips, len(test.skips))
			}
			// Whatever may be written, everything may be read.
			for _, stage := range p.Stages {
				levels := []cache.Level{}
				for _, slot := range stage.Reads {
					levels = append(levels, slot.Level)
				}
				if levels[len(levels)-1] != cache.LevelUnprefixed || len(levels) < 2 {
					t.Errorf("stage %s is read at %v", stage.Name, levels)
				}
			}
		})
	}
}

// A build that writes under no branch's name finds again what such builds
// exported.
func TestBuildWithoutABranchReadsItsOwnExports(t *testing.T) {
	t.Parallel()
	p := cache.NewPlan(trustRequest(t, func(r *cache.Request) { r.Branch = cache.Branch{From: "a tag (v1) is built"} }))
	if !slices.ContainsFunc(p.Owners, func(o cache.OwnerLevel) bool { return o.Owner == p.Owner() }) {
		t.Errorf("owners read = %v, written = %v", p.Owners, p.Owner())
	}
}

// The push of NAME:TAG is the user's own wish and left alone, except where a
// stranger would put an image at a tag that caches are read from.
func TestPushOfAStrangersImage(t *testing.T) {
	t.Parallel()
	master := cache.Owner{Branch: "master"}
	file, err := stages.Parse([]byte("FROM scratch AS builder\nRUN --mount=type=cache,target=/c a\nFROM scratch\nCOPY b /\n"), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	withMount := func(r *cache.Request) { r.File = file }
	mount := cache.NewPlan(trustRequest(t, withMount))
	for _, test := range []struct {
		image string
		also  string
		trust cache.Trust
		push  bool
	}{
		{"ghcr.io/acme/app:sha", "", cache.TrustFork, true},
		{"ghcr.io/acme/app", "", cache.TrustFork, false}, // latest
		{"ghcr.io/acme/app", "", cache.TrustOwn, true},
		{"ghcr.io/acme/app:feat", "", cache.TrustUnknown, false},
		{"ghcr.io/acme/app:master-builder", "", cache.TrustFork, false},
		{"ghcr.io/acme/app:sha", "ghcr.io/acme/app:builder", cache.TrustFork, false},
		{"ghcr.io/acme/other", "", cache.TrustFork, true},
		{"ghcr.io/acme/other:given", "", cache.TrustFork, false},
		{"ghcr.io/acme/other:given", "", cache.TrustOwn, true},
		{"ghcr.io/acme/app:" + master.CacheExportTag(), "", cache.TrustFork, false},
		{"ghcr.io/acme/app:" + master.PartialTag(), "", cache.TrustFork, false},
		{"ghcr.io/acme/app:" + master.ScopesTag(), "", cache.TrustFork, false},
		{"ghcr.io/acme/app:" + cache.Slot{Level: cache.LevelDefault, Branch: "master", Stage: "builder"}.PartialTag(), "", cache.TrustFork, false},
		{"ghcr.io/acme/app:" + mount.Mounts[0].Reads[1].Tag(), "", cache.TrustFork, false},
	} {
		p := cache.NewPlan(trustRequest(t, func(r *cache.Request) {
			withMount(r)
			r.Given = []registry.Image{mustImage(t, "ghcr.io/acme/other:given")}
			r.Repository, r.Image = r.Image.Repository, mustImage(t, test.image)
			if test.also != "" {
				r.Names = []registry.Image{mustImage(t, test.also)}
			}
			r.Origin.Trust = test.trust
		}))
		if p.Push != test.push {
			t.Errorf("%s from %s: push = %v, want %v", test.image, test.trust, p.Push, test.push)
		}
		told := slices.ContainsFunc(p.Skips, func(s cache.Skip) bool { return strings.HasPrefix(s.What, "push of ") })
		if told == test.push {
			t.Errorf("%s from %s: skips = %v", test.image, test.trust, p.Skips)
		}
	}
}

// shelf is a repository with an entry at each of some tags.
type shelf map[string][]byte

func (s shelf) Head(_ context.Context, _ registry.Repository, tag string) (ocispec.Descriptor, error) {
	for name, raw := range s {
		if d := digest.FromBytes(raw); name == tag || d.String() == tag {
			return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: d, Size: int64(len(raw))}, nil
		}
	}
	return ocispec.Descriptor{}, registry.ErrNotFound
}

func (s shelf) Manifest(ctx context.Context, r registry.Repository, tag string) ([]byte, ocispec.Descriptor, error) {
	found, err := s.Head(ctx, r, tag)
	for _, raw := range s {
		if digest.FromBytes(raw) == found.Digest {
			return raw, found, err
		}
	}
	return nil, found, err
}

// put keeps the cache that a build of some trust made of stage builder.
func (s shelf) put(t *testing.T, tag string, slot cache.Slot, trust cache.Trust) {
	t.Helper()
	entry := registry.Entry{Annotations: slot.Annotations()}
	entry.Annotations.Trust = string(trust)
	entry.Cache = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(tag), Size: 1}
	raw, err := entry.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s[tag] = raw
}

func TestABuildReadsNothingLessTrustedThanItself(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		reader cache.Trust
		want   []string // tags
	}{
		{cache.TrustOwn, []string{"master-builder", "builder"}},
		{cache.TrustFork, []string{"feat-builder", "master-builder", "builder"}},
		{cache.TrustUnknown, []string{"feat-builder", "master-builder", "builder"}},
	} {
		p := cache.NewPlan(trustRequest(t, func(r *cache.Request) { r.Origin.Trust = test.reader }))
		kept := shelf{}
		kept.put(t, "feat-builder", p.Stages[0].Reads[0], cache.TrustFork)
		kept.put(t, "master-builder", p.Stages[0].Reads[1], cache.TrustOwn)
		kept.put(t, "builder", p.Stages[0].Reads[2], "") // does not say
		found := cache.Look(t.Context(), kept, p)
		var got []string
		for _, lineage := range found.Of("builder") {
			got = append(got, lineage.Ref.Tag)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s reads (-want +got):\n%s", test.reader, diff)
		}
		if ignored := len(test.want) < len(kept); ignored != (len(found.Warnings) == 1) {
			t.Errorf("%s is warned: %q", test.reader, found.Warnings)
		}
	}
}
