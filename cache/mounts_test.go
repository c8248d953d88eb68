package cache

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/mounts"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"
)

const oneMount = "FROM base\nRUN --mount=type=cache,id=gomod,target=/go/pkg/mod fetch\n"

// mountRequest is a build on feat/x of a Dockerfile with one cache mount.
func (f *fake) mountRequest(t *testing.T, edit func(*Request)) Plan {
	t.Helper()
	return NewPlan(request(t, oneMount, func(r *Request) {
		r.Repository = f.repo
		if edit != nil {
			edit(r)
		}
	}))
}

// stateOf is a state that is told from others by its content.
func (f *fake) stateOf(t *testing.T, content string) mounts.State {
	t.Helper()
	f.blob(t, f.repo, registry.EmptyBlob, ocispec.MediaTypeEmptyJSON)
	return mounts.State{Trees: []ocispec.Descriptor{f.blob(t, f.repo, []byte(content), mounts.MediaTypeTree)}, Entries: 1, Bytes: 3}
}

// saveMount saves a state as the build of a plan does.
func (f *fake) saveMount(t *testing.T, p Plan, content string, changed bool) []Saved {
	t.Helper()
	return SaveMount(t.Context(), f.client, p, Look(t.Context(), f.client, p), p.Mounts[0], f.stateOf(t, content), changed, "1.0")
}

func wantWritten(t *testing.T, saved []Saved, levels ...string) {
	t.Helper()
	var got []string
	for _, one := range saved {
		if one.Err != nil {
			t.Fatal(one.Err)
		}
		got = append(got, one.Ref.Tag)
	}
	if len(got) != len(levels) {
		t.Fatalf("written are %q, want %q", got, levels)
	}
	for i, prefix := range levels {
		if !strings.HasPrefix(got[i], prefix) {
			t.Errorf("written are %q, want %q", got, levels)
		}
	}
}

// wantMountFrom checks which level a mount is found at, and what it is.
func (f *fake) wantMountFrom(t *testing.T, p Plan, level Level, content string) Found {
	t.Helper()
	found := Look(t.Context(), f.client, p)
	m, ok := found.Mounts[`"gomod"`]
	if ok != (level != "") {
		t.Fatalf("found: %t, want level %q; warnings %q", ok, level, found.Warnings)
	}
	if ok && (m.Slot.Level != level || m.State.Trees[0].Digest != f.stateOf(t, content).Trees[0].Digest) {
		t.Errorf("found %s (%s), want that of %s", m.Ref, m.Slot.Level, level)
	}
	return found
}

func TestMountsFallBackAsLayersDo(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	feature, master := f.mountRequest(t, nil), f.mountRequest(t, func(r *Request) { r.Branch = r.DefaultBranch })
	f.wantMountFrom(t, feature, "", "")
	other := f.mountRequest(t, func(r *Request) { r.Branch.Name = "other" })
	wantWritten(t, f.saveMount(t, other, "of other", true), "other-mount-gomod-", "mount-gomod-")
	f.wantMountFrom(t, feature, LevelUnprefixed, "of other")
	wantWritten(t, f.saveMount(t, master, "of master", true), "master-mount-gomod-", "mount-gomod-")
	f.wantMountFrom(t, feature, LevelDefault, "of master")
	// What has not changed goes to those that keep nothing yet.
	wantWritten(t, f.saveMount(t, feature, "of master", false), "feat-x-mount-gomod-")
	wantWritten(t, f.saveMount(t, feature, "of master", false))
	wantWritten(t, f.saveMount(t, feature, "of feature", true), "feat-x-mount-gomod-", "mount-gomod-")
	f.wantMountFrom(t, feature, LevelBranch, "of feature")
	f.wantMountFrom(t, master, LevelBranch, "of master")
	// Jobs of a matrix keep their own.
	scoped := f.mountRequest(t, func(r *Request) { r.Scope = "arm64" })
	f.wantMountFrom(t, scoped, "", "")
}

// What stands at a mount's tag is used only if it was written for this mount by
// a build that is trusted, and is replaced only if it was written for it.
func TestMountTagsOfOthers(t *testing.T) {
	t.Parallel()
	own := func(p Plan) registry.Annotations { return p.Mounts[0].Reads[0].identity() }
	for name, c := range map[string]struct {
		put      func(t *testing.T, f *fake, p Plan) []byte
		used     bool
		replaced bool
	}{
		"its own": {func(t *testing.T, f *fake, p Plan) []byte { return encoded(t, f.stateOf(t, "x"), own(p)) }, true, true},
		"another mount's": {func(t *testing.T, f *fake, p Plan) []byte {
			a := own(p)
			a.Mount = `"npm"`
			return encoded(t, f.stateOf(t, "x"), a)
		}, false, false},
		"another branch's": {func(t *testing.T, f *fake, p Plan) []byte {
			a := own(p)
			a.Branch = "other"
			return encoded(t, f.stateOf(t, "x"), a)
		}, false, false},
		"a fork's": {func(t *testing.T, f *fake, p Plan) []byte {
			a := own(p)
			a.Trust = string(TrustFork)
			return encoded(t, f.stateOf(t, "x"), a)
		}, false, true},
		"damaged": {func(t *testing.T, f *fake, p Plan) []byte {
			return []byte(strings.Replace(string(encoded(t, f.stateOf(t, "x"), own(p))), `"3"`, `"-3"`, 1))
		}, false, true},
		"an image": {func(t *testing.T, f *fake, p Plan) []byte {
			f.blob(t, f.repo, []byte("{}"), ocispec.MediaTypeImageConfig)
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.DescriptorEmptyJSON}
			m.SchemaVersion, m.Config.MediaType = 2, ocispec.MediaTypeImageConfig
			raw, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			p := f.mountRequest(t, func(r *Request) { r.Unprefixed = UnprefixedNever })
			tag := p.Mounts[0].Reads[0].Tag()
			if _, err := f.client.PutManifest(t.Context(), f.repo, tag, c.put(t, f, p), ocispec.MediaTypeImageManifest); err != nil {
				t.Fatal(err)
			}
			found := Look(t.Context(), f.client, p)
			if _, used := found.Mounts[`"gomod"`]; used != c.used || used != (len(found.Warnings) == 0) {
				t.Errorf("used: %t, want %t; warnings %q", used, c.used, found.Warnings)
			}
			saved := f.saveMount(t, p, "new", true)
			if len(saved) != 1 || (saved[0].Err == nil) != c.replaced {
				t.Errorf("saved: %v, want it replaced: %t", saved, c.replaced)
			}
		})
	}
}

func encoded(t *testing.T, s mounts.State, a registry.Annotations) []byte {
	t.Helper()
	raw, err := s.Manifest(a.Map())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Every slot has a tag, a valid one, and no two slots have the same.
func TestMountTags(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "feat/x", "feat-x", "/root/.cache", ".", "a\xffb", strings.Repeat("long", 100)}))
	slot := rapid.Custom(func(t *rapid.T) MountSlot {
		s := MountSlot{
			Level:  rapid.SampledFrom([]Level{LevelBranch, LevelBase, LevelDefault, LevelUnprefixed}).Draw(t, "level"),
			Branch: text.Draw(t, "branch"), Mount: text.Draw(t, "mount"), Scope: text.Draw(t, "scope"),
		}
		s.id = s.Mount
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := slot.Draw(t, "a"), slot.Draw(t, "b")
		if !registry.ValidTag(a.Tag()) {
			t.Fatalf("%+v has the tag %q", a, a.Tag())
		}
		if same := a.identity() == b.identity(); same != (a.Tag() == b.Tag()) {
			t.Fatalf("%+v and %+v have the tags %q and %q", a, b, a.Tag(), b.Tag())
		}
	})
}
