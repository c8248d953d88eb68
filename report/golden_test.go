package report_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

const repository = "ghcr.io/acme/app:"

func digest(seed string) string {
	return "sha256:" + strings.Repeat(seed, 64)[:64]
}

// example is a build of three stages on a branch, nothing cached.
func example() report.Report {
	steps := func(line int, steps ...report.Step) []report.Step {
		for i := range steps {
			steps[i].Line = line + i
			steps[i].Status = report.Ran
			steps[i].Saved = true
		}
		return steps
	}
	return report.Report{
		Version:       "1.4.0",
		Image:         repository + "3f2a91c",
		Branch:        "feat/x",
		DefaultBranch: "master",
		Engine:        "buildkitd v0.34.2",
		Result:        report.Result{Status: report.OK, Digest: digest("8f3c"), Pushed: true},
		Seconds:       302.4004,
		Phases:        []report.Phase{{Name: "lookup", Seconds: 0.12}, {Name: "build", Seconds: 296.1}, {Name: "save", Seconds: 6.2}},
		Stages: []report.Stage{
			{Name: "deps", Saved: savedTo("feat-x-deps", "deps"), Steps: steps(2,
				report.Step{Instruction: "WORKDIR /src", Seconds: 0.04},
				report.Step{Instruction: "COPY go.mod go.sum ./", Seconds: 0.11},
				report.Step{Instruction: "RUN go mod download", Seconds: 41.21},
			)},
			{Name: "builder", Saved: savedTo("feat-x-builder", "builder"), Steps: steps(7,
				report.Step{Instruction: "COPY . .", Seconds: 0.31},
				report.Step{Instruction: "RUN go generate ./...", Seconds: 58.8},
				report.Step{Instruction: "RUN go build -o /out/app ./cmd/app", Seconds: 181.9},
				report.Step{Instruction: "RUN go test ./...", Seconds: 11.4},
			)},
			{Name: "2", Saved: savedTo("feat-x", "latest"), Steps: steps(13,
				report.Step{Instruction: "COPY --from=builder /out/app /app", Seconds: 0.4},
				report.Step{Instruction: "USER 65534", Seconds: 0.02},
			)},
		},
	}
}

func savedTo(tags ...string) []report.Saved {
	var saved []report.Saved
	for _, tag := range tags {
		saved = append(saved, report.Saved{Ref: repository + tag})
	}
	return saved
}

func imported(tag, level string) *report.Imported {
	return &report.Imported{Ref: repository + tag, Level: level}
}

// allCached makes every step of r a hit of its branch's cache.
func allCached(r *report.Report) {
	tags := []string{"feat-x-deps", "feat-x-builder", "feat-x"}
	for i := range r.Stages {
		stage := &r.Stages[i]
		stage.Imported = imported(tags[i], "branch")
		stage.Saved = nil
		for j := range stage.Steps {
			stage.Steps[j].Status = report.Cached
			stage.Steps[j].Seconds = 0
			stage.Steps[j].From = stage.Imported.Ref
		}
	}
	r.Seconds = 1.4
	r.Phases = []report.Phase{{Name: "lookup", Seconds: 0.1}, {Name: "build", Seconds: 1.1}, {Name: "save", Seconds: 0.2}}
}

// stop ends r at a step: later ones of its stage and later stages are pending.
func stop(r *report.Report, stage, step int, status report.Status, err string) {
	r.Result = report.Result{Status: status, Error: err}
	for i := range r.Stages {
		for j := range r.Stages[i].Steps {
			s := &r.Stages[i].Steps[j]
			switch {
			case i == stage && j == step:
				s.Status, s.Saved = status, false
			case i > stage || i == stage && j > step:
				*s = report.Step{Line: s.Line, Instruction: s.Instruction}
			}
		}
		if i > stage {
			r.Stages[i].Saved = nil
		}
	}
}

// scenarios are the reports whose table and JSON are golden files.
var scenarios = []struct {
	name  string
	build func(r *report.Report)
}{
	{"cold", func(*report.Report) {}},
	{"all-cached", allCached},
	{"one-file-changed", func(r *report.Report) {
		changed := example()
		allCached(r)
		r.Stages[0].Imported = imported("master-deps", "default")
		r.Stages[1].Steps = changed.Stages[1].Steps
		r.Stages[1].Saved = savedTo("feat-x-builder", "builder")
		r.Stages[2].Steps = changed.Stages[2].Steps
		r.Stages[2].Saved = savedTo("feat-x", "latest")
	}},
	{"failed", func(r *report.Report) {
		stop(r, 1, 3, report.Failed, "process \"/bin/sh -c go test ./...\" did not complete successfully: exit code: 1")
		r.Stages[1].Saved = savedTo("feat-x-builder")
	}},
	{"failed-at-once", func(r *report.Report) {
		stop(r, 0, 0, report.Failed, "failed to solve: debian:nosuch: not found")
		r.Stages[0].Saved = nil
	}},
	{"failed-no-dockerfile", func(r *report.Report) {
		*r = report.Report{Version: r.Version, Image: r.Image, Result: report.Result{Status: report.Failed, Error: "dockerfile parse error on line 3: unknown instruction: RUUN"}, Seconds: 0.02}
	}},
	{"canceled", func(r *report.Report) {
		stop(r, 1, 2, report.Canceled, "interrupted by SIGTERM")
		r.Stages[1].Saved = savedTo("feat-x-builder")
		r.Stages[1].Steps[1].Saved = false
		r.Warnings = []string{"the grace of 7.5 s ended before builder line 8 was saved: run docker-build-remote-cache save --state /tmp/state.json"}
	}},
	{"registry-down", func(r *report.Report) {
		stop(r, 1, 2, report.Failed, "process \"/bin/sh -c go build -o /out/app ./cmd/app\" did not complete successfully: exit code: 2")
		for i := range r.Stages {
			for j := range r.Stages[i].Steps {
				r.Stages[i].Steps[j].Saved = false
			}
			for j := range r.Stages[i].Saved {
				r.Stages[i].Saved[j].Error = "PUT https://ghcr.io/v2/acme/app/manifests/: unexpected status code 503 Service Unavailable"
			}
		}
		r.Warnings = []string{"look up ghcr.io/acme/app:feat-x-deps: 503 Service Unavailable, built without it"}
	}},
	{"read-only", func(r *report.Report) {
		allCached(r)
		changed := example()
		r.Stages[2].Steps = changed.Stages[2].Steps
		for i := range r.Stages {
			for j := range r.Stages[i].Steps {
				if r.Stages[i].Steps[j].Status == report.Ran {
					r.Stages[i].Steps[j].Saved = false
				}
			}
			r.Stages[i].Imported = imported([]string{"master-deps", "master-builder", "master"}[i], "default")
		}
		r.Stages[2].Saved = nil
		r.Trust, r.TrustReason = "fork", "the pull request comes from another repository (stranger/app)"
		r.Result.Pushed = false
		r.Skips = []report.Skip{
			{What: "saving caches", Reason: "fork: cache is read-only: the pull request comes from another repository (stranger/app)"},
			{What: "pushing the image", Reason: "fork: no credentials for ghcr.io"},
		}
	}},
	{"cache-mounts", func(r *report.Report) {
		from := func(tag, level string) *report.MountRestored {
			return &report.MountRestored{Ref: repository + tag, Level: level, Entries: 26297, Bytes: 297_300_000, Downloaded: 71_700_000, Seconds: 2.11111}
		}
		damaged := from("master-mount-npm-65ae0ac0a30ab6df", "default")
		damaged.Error, damaged.Entries, damaged.Bytes = "damaged cache of a mount: the digest is another", 0, 0
		warm := from("mount-apt-65ae0ac0a30ab6df", "unprefixed")
		warm.Warm = true
		lost := savedTo("feat-x-mount-apt-65ae0ac0a30ab6df")
		lost[0].Error = "PUT https://ghcr.io/v2/acme/app/manifests/: unexpected status code 503 Service Unavailable"
		r.Mounts = []report.Mount{
			{
				Name: `"gomod"`, Stages: []string{"deps", "builder"}, Used: true, Restored: from("master-mount-gomod-65ae0ac0a30ab6df", "default"),
				Changes: &report.MountChanges{New: 12, Changed: 31, Removed: 2, NewBytes: 900_000, Uploaded: 490_000, Entries: 26328, Bytes: 298_200_000, Seconds: 0.51234},
				Saved:   savedTo("feat-x-mount-gomod-aaaf87239b5cf845", "mount-gomod-fe9b4731fc5ca5c1"),
			},
			{
				Name: `"/root/.cache" owner=7:0 mode=0755`, Stages: []string{"builder"}, Used: true, Restored: from("feat-x-mount-cache-b73fec1d17491e95", "branch"),
				Changes: &report.MountChanges{Entries: 26297, Bytes: 297_300_000, Seconds: 0.2},
			},
			{Name: `"npm"`, Stages: []string{"builder"}, Used: true, Restored: damaged, Note: "the mount was not free within 20s"},
			{Name: `"apt"`, Stages: []string{"2"}, Used: true, Restored: warm, Changes: &report.MountChanges{New: 1, Entries: 1, Uploaded: 500, Seconds: 0.1}, Saved: lost},
			{Name: "\"::x\x1b[2J|`\"", Stages: []string{"2"}, Note: "its steps were cached"},
		}
	}},
	{"time-saved", func(r *report.Report) {
		allCached(r)
		r.Stages[0].Steps[2].SavedSeconds = 41.21
		r.Stages[1].Steps[1].SavedSeconds, r.Stages[1].Steps[2].SavedSeconds = 58.8, 181.9
	}},
	{"advice", func(r *report.Report) {
		mount := "--mount=type=cache,target=/go/pkg/mod"
		r.Advice = []report.Advice{
			{Stage: "deps", Line: 4, Tool: "go", Mounts: []string{mount}, Text: "go mod download could keep what it downloads: add " + mount},
			{Stage: "builder", Line: 9, Tool: "docker-clean", Text: "Debian's docker-clean empties apt's cache; put before this step: RUN rm -f /etc/apt/apt.conf.d/docker-clean"},
		}
	}},
	{"no-hits", func(r *report.Report) {
		r.Stages[0].Imported = imported("deps", "unprefixed")
		r.Stages[1].Imported = imported("builder", "unprefixed")
		r.Stages[2].Imported = imported("latest", "unprefixed")
	}},
	{"merged", func(r *report.Report) {
		for i, name := range []string{"deps", "builder", "2"} {
			for _, level := range []string{"branch", "base", "default", "unprefixed"} {
				prefix := map[string]string{"branch": "feat-x", "base": "release-2.0", "default": "master", "unprefixed": ""}[level]
				tag := strings.TrimPrefix(strings.TrimSuffix(prefix+"-"+name, "-2"), "-")
				if name == "2" && level == "unprefixed" {
					tag = "latest"
				}
				r.Lineages = append(r.Lineages, report.Lineage{Ref: repository + tag, Level: level, Stage: name, Digest: digest(fmt.Sprintf("%x", len(r.Lineages)))})
			}
			r.Stages[i].Imported = &report.Imported{Ref: r.Lineages[4*i].Ref, Level: "branch"}
		}
		for j := range r.Stages[0].Steps {
			r.Stages[0].Steps[j] = report.Step{Line: 2 + j, Instruction: r.Stages[0].Steps[j].Instruction, Status: report.Cached, Saved: true, From: repository + "master-deps"}
		}
		r.Stages[1].Steps[0] = report.Step{Line: 7, Instruction: "COPY . .", Status: report.Cached, Saved: true, From: repository + "feat-x-builder"}
	}},
	{"fifty-stages", func(r *report.Report) {
		r.Branch = "renovate/all-minor-and-patch-updates-of-the-frontend"
		prefix := "renovate-all-minor-and-patch-updates-of-the-frontend-"
		r.Stages = nil
		for i := range 50 {
			name := fmt.Sprintf("service-%02d-integration-tests", i)
			stage := report.Stage{Name: name, Imported: imported(prefix+name, "branch")}
			for j := range 1 + i%5 {
				stage.Steps = append(stage.Steps, report.Step{Line: 10*i + j + 1, Instruction: "RUN make " + name, Status: report.Cached, Saved: true})
			}
			if i%8 == 3 {
				last := &stage.Steps[len(stage.Steps)-1]
				last.Status, last.Seconds = report.Ran, float64(i)*7.7
				stage.Saved = savedTo(prefix+name, name)
			}
			r.Stages = append(r.Stages, stage)
		}
	}},
	{"fifty-stages-all-cached", func(r *report.Report) {
		r.Stages = nil
		for i := range 50 {
			name := fmt.Sprintf("service-%02d", i)
			r.Stages = append(r.Stages, report.Stage{Name: name, Imported: imported("master-"+name, "default"), Steps: []report.Step{
				{Line: i + 1, Instruction: "RUN make " + name, Status: report.Cached, Saved: true},
			}})
		}
	}},
	{"hostile", func(r *report.Report) {
		r.Branch = "feat\x1b[2J\u202e/x"
		stop(r, 1, 1, report.Failed, "exit code: 1\n::error::pwned\r\n##vso[task.setvariable variable=x]y")
		r.Stages[1].Name = "::set-output name=x::\x1b]0;title\a" + strings.Repeat("long", 100)
		r.Stages[1].Steps[1].Instruction = "RUN <<EOF\n##[error]" + strings.Repeat("x && ", 10000)
		r.Warnings = []string{strings.Repeat("w", 10000), "\xff\xfe\x9b31m"}
		r.Advice = []report.Advice{{Stage: "x", Line: 3, Tool: "npm", Text: "npm\x1b[2J ci `|\n::error::pwned"}}
		for range 20 {
			r.Skips = append(r.Skips, report.Skip{What: "a\tb", Reason: "c\u2028d"})
		}
	}},
}

func build(t *testing.T, name string) report.Report {
	t.Helper()
	for _, s := range scenarios {
		if s.name == name {
			r := example()
			s.build(&r)
			return r
		}
	}
	t.Fatalf("no scenario %s", name)
	return report.Report{}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			var table, text strings.Builder
			if err := report.Fprint(&table, build(t, s.name), report.Options{}); err != nil {
				t.Fatal(err)
			}
			golden(t, s.name+".txt", table.String())
			golden(t, s.name+".md", build(t, s.name).Markdown())
			if err := build(t, s.name).Write(&text); err != nil {
				t.Fatal(err)
			}
			validate(t, text.String())
			if !strings.HasPrefix(s.name, "fifty-stages") && s.name != "hostile" { // long, and nothing new in them
				golden(t, s.name+".json", text.String())
			}
		})
	}
}

func TestGoldenWide(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	if err := report.Fprint(&table, build(t, "fifty-stages"), report.Options{Width: 160}); err != nil {
		t.Fatal(err)
	}
	golden(t, "fifty-stages-wide.txt", table.String())
}

func TestGoldenColor(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	if err := report.Fprint(&table, build(t, "failed"), report.Options{Color: true}); err != nil {
		t.Fatal(err)
	}
	golden(t, "failed-color.txt", table.String())
}
