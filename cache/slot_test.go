package cache

import (
	"strings"
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"pgregory.net/rapid"
)

// The table of issue A, "Fallback tags".
func TestSlotTagsOfTheIssue(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		slot Slot
		want string
	}{
		{Slot{Level: LevelBranch, Branch: "feat/x", Stage: "builder"}, "feat-x-builder"},
		{Slot{Level: LevelBranch, Branch: "feat/x", Stage: "app", Final: true}, "feat-x"},
		{Slot{Level: LevelDefault, Branch: "master", Stage: "builder"}, "master-builder"},
		{Slot{Level: LevelDefault, Branch: "master", Final: true}, "master"},
		{Slot{Level: LevelUnprefixed, Branch: "feat/x", Stage: "builder"}, "builder"},
		{Slot{Level: LevelUnprefixed, Branch: "feat/x", Stage: "app", Final: true}, "latest"},
		{Slot{Level: LevelBase, Branch: "release/1.x", Stage: "0"}, "release-1.x-0"},
		{Slot{Level: LevelBranch, Branch: "feat/x", Stage: "builder", Scope: "linux/arm64"}, "feat-x-builder.linux-arm64"},
		{Slot{Level: LevelBranch, Branch: "feat/x", Final: true, Scope: "py3.12"}, "feat-x.py3.12"},
		{Slot{Level: LevelUnprefixed, Final: true, Scope: "linux/arm64"}, "latest.linux-arm64"},
	} {
		plain, hashed := tc.slot.Tags()
		if plain != tc.want {
			t.Errorf("%+v has the plain tag %q, want %q", tc.slot, plain, tc.want)
		}
		if readable, hash, _ := cutLast(hashed, "-"); readable != tc.want || len(hash) != hashedHashDigits {
			t.Errorf("%+v has the hashed tag %q", tc.slot, hashed)
		}
	}
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

// What cannot stand in a tag is made up for by a hash, already in the plain
// tag. The hashes are written out: caches in registries depend on them.
func TestSlotTagsThatNeedAHash(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		slot          Slot
		plain, hashed string
	}{
		{Slot{Level: LevelBranch, Branch: "feat/#12", Stage: "builder"}, "feat--12-builder-H8", "feat--12-builder-H16"},
		{Slot{Level: LevelBranch, Branch: ".hidden", Final: true}, "_hidden-H8", "_hidden-H16"},
		{Slot{Level: LevelBranch, Branch: "-dash", Final: true}, "_dash-H8", "_dash-H16"},
		{Slot{Level: LevelBranch, Branch: "ветка", Final: true}, "_-----H8", "_-----H16"},
		{Slot{Level: LevelBranch, Branch: long, Stage: "builder"}, long[:119] + "-H8", long[:111] + "-H16"},
		{Slot{Level: LevelUnprefixed}, "H8", "H16"},
	} {
		plain, hashed := tc.slot.Tags()
		hash := hashed[len(hashed)-hashedHashDigits:]
		replace := strings.NewReplacer("H8", hash[:plainHashDigits], "H16", hash)
		if plain != replace.Replace(tc.plain) || hashed != replace.Replace(tc.hashed) {
			t.Errorf("%+v has the tags %q, %q, want %q, %q", tc.slot, plain, hashed, replace.Replace(tc.plain), replace.Replace(tc.hashed))
		}
	}
}

func TestSlotHashesStayTheSame(t *testing.T) {
	t.Parallel()
	_, hashed := Slot{Level: LevelBranch, Branch: "feat/x", Stage: "builder"}.Tags()
	owner := Owner{Branch: "feat/x", Scope: "linux/arm64"}
	for _, tc := range []struct{ got, want string }{
		{hashed, "feat-x-builder-bf407ea7beb4683a"},
		{owner.CacheExportTag(), "feat-x.linux-arm64-cache-ba171d8b0f424592"},
		{owner.PartialTag(), "feat-x.linux-arm64-partial-6f6b8c3454cf5c32"},
		{Owner{}.CacheExportTag(), "cache-d96b9ad8bffeffad"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q: caches in registries would no longer be found", tc.got, tc.want)
		}
	}
}

func TestSlotMatches(t *testing.T) {
	t.Parallel()
	builder := Slot{Level: LevelBranch, Branch: "feat/x", Stage: "builder"}
	for _, tc := range []struct {
		name    string
		slot    Slot
		other   Slot
		matches bool
	}{
		{"itself", builder, builder, true},
		{"the same branch as default branch", builder, Slot{Level: LevelDefault, Branch: "feat/x", Stage: "builder"}, true},
		{"another branch with the same tag", builder, Slot{Level: LevelBranch, Branch: "feat-x", Stage: "builder"}, false},
		{"a branch called as branch and stage", builder, Slot{Level: LevelBranch, Branch: "feat/x-builder", Final: true}, false},
		{"another scope", builder, Slot{Level: LevelBranch, Branch: "feat/x", Stage: "builder", Scope: "arm64"}, false},
		{"the unprefixed level", builder, Slot{Level: LevelUnprefixed, Branch: "feat/x", Stage: "builder"}, false},
		{
			"unprefixed, written by another branch",
			Slot{Level: LevelUnprefixed, Branch: "a", Stage: "builder"}, Slot{Level: LevelUnprefixed, Branch: "b", Stage: "builder"}, true,
		},
		{
			"final, the stage renamed",
			Slot{Level: LevelBranch, Branch: "a", Stage: "app", Final: true}, Slot{Level: LevelBranch, Branch: "a", Stage: "web", Final: true}, true,
		},
		{
			"a branch called builder and the stage",
			Slot{Level: LevelBranch, Branch: "builder", Final: true}, Slot{Level: LevelUnprefixed, Stage: "builder"}, false,
		},
	} {
		found := tc.other.Annotations()
		found.ToolVersion, found.Trust, found.Created = "1.2.3", "own", time.Unix(1, 0)
		if got := tc.slot.Matches(found); got != tc.matches {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// anyText draws what may come from an environment or a Dockerfile, and what
// is likely to collide.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "feat/x", "feat-x", "feat", "x", "builder", "x-builder", "latest", ".", "-", "a.b", "\xff", "\xfe"}),
		rapid.StringMatching(`[-./a-z]{0,4}`),
		rapid.StringN(0, 300, -1),
		rapid.StringMatching(`x{120,140}`),
	)
}

func anySlot() *rapid.Generator[Slot] {
	return rapid.Custom(func(t *rapid.T) Slot {
		return Slot{
			Level:  rapid.SampledFrom([]Level{LevelBranch, LevelBase, LevelDefault, LevelUnprefixed}).Draw(t, "level"),
			Branch: anyText().Draw(t, "branch"),
			Stage:  anyText().Draw(t, "stage"),
			Final:  rapid.Bool().Draw(t, "final"),
			Scope:  anyText().Draw(t, "scope"),
		}
	})
}

func TestTagsAreValidAndApart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := anySlot().Draw(t, "a"), anySlot().Draw(t, "b")
		checkTags(t, a, b)
		owners := []Owner{{a.Branch, a.Scope}, {b.Branch, b.Scope}}
		_, hashed := a.Tags()
		seen := map[string]bool{hashed: true}
		for _, o := range owners {
			for _, tag := range []string{o.CacheExportTag(), o.PartialTag()} {
				if !registry.ValidTag(tag) {
					t.Fatalf("%+v has the tag %q", o, tag)
				}
				if seen[tag] && cleanOwner(owners[0]) != cleanOwner(owners[1]) {
					t.Fatalf("%+v and %+v share the tag %q", owners[0], owners[1], tag)
				}
				seen[tag] = true
			}
		}
	})
}

func cleanOwner(o Owner) Owner { return Owner{utf8Text(o.Branch), utf8Text(o.Scope)} }

type fataler interface{ Fatalf(string, ...any) }

// checkTags holds two slots to what the tool relies on: their tags are valid,
// and their hashed tags differ just if the slots do.
func checkTags(t fataler, a, b Slot) {
	plain, hashed := a.Tags()
	if !registry.ValidTag(plain) || !registry.ValidTag(hashed) || plain == hashed {
		t.Fatalf("%+v has the tags %q, %q", a, plain, hashed)
	}
	if !a.Matches(a.Annotations()) {
		t.Fatalf("%+v does not match its own annotations", a)
	}
	same := a.Matches(b.Annotations())
	if same != b.Matches(a.Annotations()) {
		t.Fatalf("%+v and %+v: only one matches the other", a, b)
	}
	if _, other := b.Tags(); (hashed == other) != same {
		t.Fatalf("%+v has %q, %+v has %q, but the same is %v", a, hashed, b, other, same)
	}
}

func FuzzTags(f *testing.F) {
	f.Add("feat/x", "builder", "", false, "feat-x", "builder", "", false)
	f.Add("builder", "", "", true, "", "builder", "", false)
	f.Add(".", "-", "/", false, "\xff", "", "\xfe", true)
	f.Add("\xff", "0", "", false, "\xd4\xfe", "0", "", false)
	f.Fuzz(func(t *testing.T, branchA, stageA, scopeA string, finalA bool, branchB, stageB, scopeB string, finalB bool) {
		slot := func(branch, stage, scope string, final bool) Slot {
			level := LevelBranch
			if branch == "" {
				level = LevelUnprefixed
			}
			return Slot{Level: level, Branch: branch, Stage: stage, Final: final, Scope: scope}
		}
		checkTags(t, slot(branchA, stageA, scopeA, finalA), slot(branchB, stageB, scopeB, finalB))
	})
}

func TestPartialTag(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := Slot{Level: LevelBranch, Branch: rapid.StringN(1, 300, -1).Draw(t, "branch"), Stage: rapid.StringN(1, 200, -1).Draw(t, "stage"), Final: rapid.Bool().Draw(t, "final")}
		plain, hashed := s.Tags()
		partial := s.PartialTag()
		if !registry.ValidTag(partial) || partial == plain || partial == hashed || partial == (Owner{Branch: s.Branch}).PartialTag() {
			t.Errorf("%q beside %q and %q", partial, plain, hashed)
		}
	})
}
