package cache

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache/merge"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	master = "master"
	feat   = "feat/x"
)

func exportTag(branch, scope string) string { return Owner{branch, scope}.CacheExportTag() }

func TestViewHasWhatAnyLevelHas(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.push(t, f.repo, exportTag(master, ""), "base", "deps2")
	f.push(t, f.repo, exportTag(feat, ""), "base", "deps1", "app")
	p := f.plan(t, feat, "", nil)
	view, got := f.view(t, p)
	if want := layers("base", "deps1", "deps2", "app"); got != want {
		t.Errorf("the view has %s, want %s", got, want)
	}
	if view.Served != nil || len(view.Lineages) != 2 || len(view.Warnings) > 0 {
		t.Errorf("served %v, %d lineages, %q", view.Served, len(view.Lineages), view.Warnings)
	}
	f.mu.Lock()
	f.requests = nil
	f.mu.Unlock()
	if again, _ := f.view(t, p); again.Ref != view.Ref {
		t.Errorf("the same caches gave %s, then %s", view.Ref, again.Ref)
	}
	if writes := f.writes(); len(writes) > 0 {
		t.Errorf("a view that is there was written again: %q", writes)
	}
}

func TestViewOfOneCacheIsThatCache(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	pushed := f.push(t, f.repo, exportTag(master, ""), "base", "deps")
	f.push(t, f.repo, exportTag(feat, ""), "base")
	f.requests = nil
	view, _ := f.view(t, f.plan(t, feat, "", nil))
	if want := f.repo.Digested(pushed.Digest); view.Ref != want {
		t.Errorf("view at %q, want %q", view.Ref, want)
	}
	if writes := f.writes(); len(writes) > 0 {
		t.Errorf("written: %q", writes)
	}
}

// A branch comes to agree with what it will be merged into; all jobs of a
// matrix agree with each other.
func TestWhoseContentIsPreferred(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		caches map[string]string // by tag, of the step deps
		scope  string
		want   string
	}{
		"default branch":          {map[string]string{exportTag(feat, ""): "deps@feat", exportTag(master, ""): "deps@master"}, "", "deps@master"},
		"base branch over branch": {map[string]string{exportTag(feat, ""): "deps@feat", exportTag("release", ""): "deps@release"}, "", "deps@release"},
		"given last":              {map[string]string{exportTag(feat, ""): "deps@feat", "a-given": "deps@given"}, "", "deps@feat"},
		"first sibling, for one":  {map[string]string{exportTag(feat, "a"): "deps@a", exportTag(feat, "b"): "deps@b"}, "a", "deps@a"},
		"and for the other":       {map[string]string{exportTag(feat, "a"): "deps@a", exportTag(feat, "b"): "deps@b"}, "b", "deps@a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			for tag, step := range tc.caches {
				f.push(t, f.repo, tag, "base", step)
			}
			if tc.scope != "" {
				f.announce(t, "a")
				f.announce(t, "b")
			}
			view, got := f.view(t, f.plan(t, feat, tc.scope, func(r *Request) {
				r.BaseBranch.Name = "release"
				r.Given = []registry.Image{f.repo.Tagged("a-given")}
			}))
			if got != layers("base", tc.want) || view.Conflicts != 1 {
				t.Errorf("the view has %s, want %s, %d conflicts", got, layers("base", tc.want), view.Conflicts)
			}
		})
	}
}

func (f *fake) announce(t *testing.T, scope string) {
	t.Helper()
	p := f.plan(t, feat, scope, nil)
	if err := announceScope(t.Context(), f.client, p, Look(t.Context(), f.client, p)); err != nil {
		t.Fatal(err)
	}
}

func TestSiblingsAreFound(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for _, scope := range []string{"linux/amd64", "linux/arm64", "plain ☂"} {
		f.push(t, f.repo, exportTag(feat, scope), "of "+scope)
		f.announce(t, scope)
	}
	f.push(t, f.repo, Owner{feat, "linux/arm64"}.PartialTag(), "partly of linux/arm64")
	f.push(t, f.repo, exportTag(feat, ""), "of none")
	want := layers("of linux/amd64", "of linux/arm64", "of plain ☂", "partly of linux/arm64", "of none")
	for _, scope := range []string{"linux/amd64", "linux/arm64", "new", ""} {
		if view, got := f.view(t, f.plan(t, feat, scope, nil)); got != want || len(view.Warnings) > 0 {
			t.Errorf("scope %q: the view has %s, want %s, %q", scope, got, want, view.Warnings)
		}
	}
	if _, got := f.view(t, f.plan(t, "feat/y", "linux/amd64", nil)); got != "" {
		t.Errorf("another branch reads %s", got)
	}
}

func TestScopesAnnouncedAtOnceAreAllFound(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	scopes := []string{"a", "b", "c", "d"}
	// All read the list before any writes it.
	first := make(chan struct{})
	reads := 0
	tag := Owner{Branch: feat}.ScopesTag()
	f.before = func(r *http.Request) int {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/manifests/"+tag) {
			if reads++; reads == len(scopes) {
				close(first)
			}
			if reads <= len(scopes) {
				f.mu.Unlock()
				<-first
				f.mu.Lock()
			}
		}
		return 0
	}
	done := make(chan error)
	for _, scope := range scopes {
		p := f.plan(t, feat, scope, nil)
		go func() { done <- announceScope(t.Context(), f.client, p, Found{}) }()
	}
	for range scopes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	f.before = nil
	// What was lost is made up for when the builds are done.
	for _, scope := range scopes {
		f.announce(t, scope)
	}
	list, err := readScopes(t.Context(), f.client, f.plan(t, feat, "a", nil))
	if slices.Sort(list.Names); !slices.Equal(list.Names, scopes) || err != nil {
		t.Errorf("the list has %q, %v", list.Names, err)
	}
}

func TestViewIsServedWhereNothingMayBeWritten(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		edit   func(*Request)
		before func(*http.Request) int
		writes bool // attempts
	}{
		"the plan is read-only":             {edit: func(r *Request) { r.ReadOnly = "a fork" }},
		"never saved":                       {edit: func(r *Request) { r.Save = SaveNever }},
		"the registry refuses":              {before: refuseWrites, writes: true},
		"a layer is in another repository ": {edit: func(r *Request) { r.Given = []registry.Image{mustImage(r, "other").Tagged("x")} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.push(t, f.repo, exportTag(master, ""), "base", "deps2")
			f.push(t, f.repo, exportTag(feat, ""), "base", "deps1")
			want := layers("base", "deps1", "deps2")
			p := f.plan(t, feat, "", tc.edit)
			if len(p.Given) > 0 {
				f.push(t, p.Given[0].Repository, p.Given[0].Tag, "base", "given")
				want = layers("base", "deps1", "deps2", "given")
			}
			f.requests, f.before = nil, tc.before
			view, got := f.view(t, p)
			if got != want || view.Served == nil || len(view.Warnings) > 0 {
				t.Fatalf("the view has %s, want %s; served %v, %q", got, want, view.Served, view.Warnings)
			}
			if writes := f.writes(); len(writes) > 0 != tc.writes {
				t.Errorf("written: %q", writes)
			}
			for layer := range strings.FieldsSeq(want) {
				f.served(t, view, digest.Digest(layer))
			}
		})
	}
}

func mustImage(r *Request, name string) registry.Repository {
	repo, err := registry.ParseRepository(r.Repository.Host() + "/acme/" + name)
	if err != nil {
		panic(err)
	}
	return repo
}

func TestLostLayersAreLeftOut(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.push(t, f.repo, exportTag(master, ""), "base", "deps@master", "app@master")
	f.push(t, f.repo, exportTag(feat, ""), "base", "deps@feat", "app@feat", "more")
	f.push(t, f.repo, "a-given", "base", "deps@given")
	p := f.plan(t, feat, "", func(r *Request) { r.Given = []registry.Image{f.repo.Tagged("a-given")} })
	for _, tc := range []struct {
		lose, says string
		want       []string
	}{
		{"more", exportTag(feat, ""), []string{"base", "deps@master", "app@master"}},
		{"app@master", exportTag(master, ""), []string{"base", "deps@master", "app@feat"}},
		{"deps@master", exportTag(master, ""), []string{"base", "deps@feat", "app@feat"}},
		// Only now is the third asked for.
		{"deps@feat", exportTag(feat, ""), []string{"base", "deps@given"}},
		{"base", "a-given", nil},
	} {
		f.lose(tc.lose)
		view, got := f.view(t, p)
		if want := layers(tc.want...); got != want {
			t.Errorf("without %s the view has %s, want %s", tc.lose, got, want)
		}
		if !slices.ContainsFunc(view.Warnings, func(w string) bool { return strings.Contains(w, f.repo.Tagged(tc.says).String()) }) {
			t.Errorf("without %s no warning names %s: %q", tc.lose, tc.says, view.Warnings)
		}
	}
}

func TestFewViewTags(t *testing.T) {
	t.Parallel()
	tags := map[string]bool{}
	for _, content := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		tags[Owner{Branch: feat}.ViewTag(digest.FromString(content))] = true
	}
	if len(tags) < 2 || len(tags) > viewTags {
		t.Errorf("%d tags: %v", len(tags), tags)
	}
	for tag := range tags {
		if !registry.ValidTag(tag) {
			t.Errorf("%q is no tag", tag)
		}
	}
}

// A run that was interrupted says so once, not of every tag.
func TestLookThatIsInterrupted(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	ctx, interrupt := context.WithCancelCause(t.Context())
	interrupt(errors.New("interrupted"))
	found := Look(ctx, f.client, f.plan(t, feat, "", nil))
	if want := []string{"no cache can be read: interrupted"}; !slices.Equal(found.Warnings, want) {
		t.Errorf("warnings are %q, want %q", found.Warnings, want)
	}
}

func TestFromNamesTheCacheOfAStep(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.push(t, f.repo, exportTag(master, ""), "base", "deps@master")
	f.push(t, f.repo, exportTag(feat, ""), "base", "deps@feat", "app")
	view, _ := f.view(t, f.plan(t, feat, "", nil))
	result := func(steps ...string) merge.Result {
		r := merge.Result{Record: recordOf(steps[len(steps)-1])}
		for _, step := range steps {
			r.Layers = append(r.Layers, digest.FromBytes(layerOf(step)))
		}
		return r
	}
	base, deps, app := result("base"), result("base", "deps@master"), result("base", "deps@feat", "app")
	ofMaster, ofFeat := f.repo.Tagged(exportTag(master, "")).String(), f.repo.Tagged(exportTag(feat, "")).String()
	for _, tc := range []struct {
		results []merge.Result
		want    string
	}{
		{nil, ""},
		{[]merge.Result{base}, ofMaster},
		{[]merge.Result{deps}, ofMaster},
		{[]merge.Result{result("base", "deps@feat")}, ""}, // not in the view: the engine had it
		{[]merge.Result{result("deps@master")}, ""},       // on another base
		{[]merge.Result{app}, ofFeat},
		{[]merge.Result{base, deps}, ofMaster},
		{[]merge.Result{base, app}, ""},
		{[]merge.Result{app, result("else")}, ""},
	} {
		if got := view.From("builder", tc.results...); got != tc.want {
			t.Errorf("From(%v) = %q, want %q", tc.results, got, tc.want)
		}
	}
}

// An entry whose cache is something else is not passed over in silence, as an
// image without a cache is.
func TestEntryWithoutACacheIsTold(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	p := f.plan(t, feat, "", nil)
	slot := p.Stages[0].Reads[0]
	raw := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/x-else","digest":"` +
		f.blob(t, f.repo, []byte("{}"), "application/x-else").Digest.String() + `","size":2},"layers":[]}`)
	other, err := f.client.PutManifest(t.Context(), f.repo, "other", raw, ocispec.MediaTypeImageManifest)
	if err != nil {
		t.Fatal(err)
	}
	entry := registry.Entry{Annotations: slot.Annotations(), Cache: &other}
	if raw, err = entry.Encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.PutManifest(t.Context(), f.repo, p.Tags(slot)[0], raw, ocispec.MediaTypeImageIndex); err != nil {
		t.Fatal(err)
	}
	if v, _ := f.view(t, p); !v.Empty() || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "no cache in manifest") {
		t.Errorf("warnings: %q", v.Warnings)
	}
}
