package cache

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

const twoStages = `FROM fat AS builder
RUN make
FROM slim
COPY --from=builder /out /out
`

// request is what the article builds on a feature branch; edit changes it.
func request(t testing.TB, dockerfile string, edit func(*Request)) Request {
	t.Helper()
	file, err := stages.Parse([]byte(dockerfile), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	image, err := registry.ParseImage("ghcr.io/acme/app:1f0c9d2")
	if err != nil {
		t.Fatal(err)
	}
	r := Request{
		Image: image, Push: true, Repository: image.Repository, File: file, Target: len(file.Stages) - 1,
		Branch: Branch{"feat/x", "GITHUB_HEAD_REF"}, DefaultBranch: Branch{"master", "event"},
		Save: SaveAlways, Unprefixed: UnprefixedAlways,
	}
	for i := range file.Stages {
		r.Stages = append(r.Stages, i)
	}
	if edit != nil {
		edit(&r)
	}
	return r
}

func TestPlan(t *testing.T) {
	t.Parallel()
	const withTests = "FROM base AS deps\nRUN fetch\nFROM deps AS test\nRUN check\nFROM deps AS alias\nFROM scratch\nCOPY --from=alias / /\n"
	const withMounts = "FROM base AS deps\nRUN --mount=type=cache,id=gomod,target=/go/pkg/mod fetch\n" +
		"FROM deps\nRUN --mount=type=cache,id=gomod,target=/mod --mount=type=cache,target=/root/.cache,uid=7 check\n" +
		"RUN --mount=type=cache,target=/only/read,readonly look\n"
	cases := map[string]struct {
		dockerfile string
		edit       func(*Request)
	}{
		"article":                            {twoStages, nil},
		"default branch":                     {twoStages, func(r *Request) { r.Branch = r.DefaultBranch }},
		"pull request":                       {twoStages, func(r *Request) { r.BaseBranch = Branch{"release/2", "the pull request"} }},
		"pull request to the default branch": {twoStages, func(r *Request) { r.BaseBranch = r.DefaultBranch }},
		"unknown branch":                     {twoStages, func(r *Request) { r.Branch = Branch{"", "HEAD is detached"} }},
		"image is the branch's tag":          {twoStages, func(r *Request) { r.Image = r.Repository.Tagged("feat-x") }},
		"second name is latest":              {twoStages, func(r *Request) { r.Names = []registry.Image{r.Repository.Tagged("latest")} }},
		"caches elsewhere": {twoStages, func(r *Request) {
			r.Repository, _ = registry.ParseRepository("localhost:5000/cache")
			r.Image = r.Image.Repository.Tagged("feat-x")
		}},
		"read-only":        {twoStages, func(r *Request) { r.ReadOnly = "fork: cache is read-only" }},
		"save never":       {twoStages, func(r *Request) { r.Save = SaveNever }},
		"unprefixed never": {twoStages, func(r *Request) { r.Unprefixed = UnprefixedNever }},
		"unprefixed by the default branch, on another": {twoStages, func(r *Request) { r.Unprefixed = UnprefixedDefaultBranch }},
		"unprefixed by the default branch, on it": {twoStages, func(r *Request) {
			r.Unprefixed, r.Branch = UnprefixedDefaultBranch, r.DefaultBranch
		}},
		"own pull request": {twoStages, func(r *Request) {
			r.BaseBranch, r.Origin = r.DefaultBranch, Origin{TrustOwn, "the pull request's branch is in this repository", true, false}
		}},
		"fork": {twoStages, func(r *Request) {
			r.BaseBranch, r.Origin = r.DefaultBranch, Origin{TrustFork, "the pull request comes from another repository (stranger/app)", true, false}
		}},
		"fork that names the image latest": {twoStages, func(r *Request) {
			r.Image, r.Origin = r.Repository.Tagged("latest"), Origin{TrustFork, "the pull request comes from another repository", true, false}
		}},
		"merge queue": {twoStages, func(r *Request) {
			r.Branch, r.BaseBranch = Branch{"gh-readonly-queue/master/pr-7-0123abc", "event"}, r.DefaultBranch
			r.Origin = Origin{TrustOwn, "not a pull request", false, true}
		}},
		"tag": {twoStages, func(r *Request) {
			r.Branch, r.Origin = Branch{"", "a tag (v1.0) is built"}, Origin{TrustOwn, "not a pull request", false, false}
		}},
		"not pushed":                           {twoStages, func(r *Request) { r.Push = false }},
		"scope":                                {twoStages, func(r *Request) { r.Scope = "linux/arm64" }},
		"tests, an alias and an unnamed stage": {withTests, nil},
		"cache mounts":                         {withMounts, nil},
		"cache mounts by id, in a scope": {withMounts, func(r *Request) {
			r.Mounts.IDs, r.Scope = []string{"gomod", "nowhere"}, "linux/arm64"
		}},
		"no cache mounts": {withMounts, func(r *Request) { r.Mounts.None = true }},
		"cache mounts of a fork": {withMounts, func(r *Request) {
			r.BaseBranch, r.Origin = r.DefaultBranch, Origin{TrustFork, "the pull request comes from another repository", true, false}
		}},
		"one target": {withTests, func(r *Request) { r.Target, r.Stages = 1, []int{0, 1} }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := NewPlan(request(t, c.dockerfile, c.edit)).Fprint(&got); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "plan", strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name)+".txt"), got.Bytes())
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got, -update accepts):\n%s", path, diff)
	}
}

// The table of issue A.
func TestFallbackTags(t *testing.T) {
	t.Parallel()
	p := NewPlan(request(t, twoStages, nil))
	want := map[string][]string{
		"builder": {"feat-x-builder", "master-builder", "builder"},
		"1":       {"feat-x", "master", "latest"},
	}
	for _, stage := range p.Stages {
		var tags []string
		for _, slot := range stage.Reads {
			tags = append(tags, p.Tags(slot)[0])
		}
		if diff := cmp.Diff(want[stage.Name], tags); diff != "" {
			t.Errorf("stage %s: %s", stage.Name, diff)
		}
	}
}

// What the run itself names as an image stays the plain image.
func TestNoSlotOfAnImageNamedByTheRun(t *testing.T) {
	t.Parallel()
	for _, tag := range []string{"feat-x", "feat-x-builder", "latest", "builder"} {
		p := NewPlan(request(t, twoStages, func(r *Request) { r.Image = r.Repository.Tagged(tag) }))
		for _, stage := range p.Stages {
			for _, slot := range append(stage.Reads, stage.Writes...) {
				if slices.Contains(p.Tags(slot), tag) {
					t.Errorf("image %s: a slot of stage %s may be kept there", tag, stage.Name)
				}
			}
		}
	}
}
