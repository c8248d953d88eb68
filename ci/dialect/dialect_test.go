package dialect

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// job is a dialect in a job of its platform.
type job struct {
	Dialect
	out *bytes.Buffer
	dir string
}

func newJob(t *testing.T, provider string) job {
	t.Helper()
	dir := t.TempDir()
	env := map[string]string{
		"GITHUB_WORKSPACE": filepath.Join(dir, "src"), "BUILD_SOURCESDIRECTORY": filepath.Join(dir, "src"),
		"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
		"AGENT_TEMPDIRECTORY": dir,
	}
	out := new(bytes.Buffer)
	return job{New(provider, Options{
		Log: NewLog(out), Getenv: func(name string) string { return env[name] }, Artifacts: dir,
	}), out, dir}
}

// tell says one of everything.
func (j job) tell() {
	j.Group("build")
	j.Annotate(Annotation{Severity: Error, File: filepath.Join(j.dir, "src", "app", "Dockerfile"), Line: 7, Text: "exit code: 1\n100% of: RUN [a, b]; false"})
	j.Annotate(Annotation{Severity: Warning, Text: "no cache can be read"})
	j.Mask("s3cret;]")
	j.EndGroup()
}

func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	for provider, want := range map[string]string{
		"github": `::group::build
::error file=app/Dockerfile,line=7::exit code: 1%0A100%25 of: RUN [a, b]; false
::warning::no cache can be read
::add-mask::s3cret;]
::endgroup::
`,
		"azure": `##[group]build
##vso[task.logissue type=error;sourcepath=app/Dockerfile;linenumber=7]exit code: 1%0A100%AZP25 of: RUN [a, b]; false
##vso[task.logissue type=warning]no cache can be read
##vso[task.setsecret]s3cret;]
##[endgroup]
`,
		"circleci": "",
		"gitlab":   "",
	} {
		j := newJob(t, provider)
		j.tell()
		if diff := cmp.Diff(want, j.out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", provider, diff)
		}
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"image":  "ghcr.io/acme/app:1",
		"report": "a\n_GitHubActionsFileCommandDelimeter_\nevil<<EOF\n100%; a]",
		"digest": "",
	}
	j := newJob(t, "github")
	for name, value := range values {
		if err := j.Output(name, value); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(filepath.Join(j.dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := outputs(string(file))
	if diff := cmp.Diff(values, got); diff != "" || err != nil {
		t.Errorf("GitHub: %v (-want +got):\n%s", err, diff)
	}

	j = newJob(t, "azure")
	for name, value := range values {
		if err := j.Output(name, value); err != nil {
			t.Fatal(err)
		}
	}
	commands, err := azureObeys(j.out.String())
	if err != nil {
		t.Fatal(err)
	}
	got = map[string]string{}
	for _, c := range commands {
		if c.Name != "task.setvariable" || c.Properties["isOutput"] != "true" {
			t.Errorf("Azure: %+v", c)
		}
		got[c.Properties["variable"]] = c.Value
	}
	if diff := cmp.Diff(values, got); diff != "" {
		t.Errorf("Azure (-want +got):\n%s", diff)
	}
}

func TestSummaries(t *testing.T) {
	t.Parallel()
	const markdown = "| a | b |\n"
	for _, provider := range []string{"github", "azure", "circleci"} {
		j := newJob(t, provider)
		if err := j.Summary(markdown); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(j.dir, map[string]string{"github": "summary", "circleci": "summary.md"}[provider])
		if provider == "azure" {
			commands, err := azureObeys(j.out.String())
			if err != nil || len(commands) != 1 || commands[0].Name != "task.uploadsummary" {
				t.Fatalf("azure: %v, %v", commands, err)
			}
			file = commands[0].Value
		}
		text, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(text)) != strings.TrimSpace(markdown) {
			t.Errorf("%s: %q, %v", provider, text, err)
		}
	}
	if err := newJob(t, "github").Summary(strings.Repeat("a", maxSummary)); err == nil {
		t.Error("GitHub is told a summary that it does not take")
	}
}

// What cannot be told is an error, not a panic.
func TestPlatformWithoutItsFiles(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing", "file")
	if err := os.WriteFile(filepath.Dir(missing), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ provider, path string }{
		{"github", ""}, {"github", missing}, {"azure", missing}, {"circleci", missing},
	} {
		d := New(test.provider, Options{Log: NewLog(new(bytes.Buffer)), Getenv: func(string) string { return test.path }, Artifacts: test.path})
		if err := d.Summary("a"); err == nil {
			t.Errorf("%s at %q: no error of the summary", test.provider, test.path)
		}
		if err := d.Output("a", "b"); err == nil && test.provider == "github" {
			t.Errorf("%s at %q: no error of the output", test.provider, test.path)
		}
	}
}

func TestMasks(t *testing.T) {
	t.Parallel()
	got := masks("\n-----BEGIN KEY-----\r\n  MIIE\nab\nMIIE\n\n-----END KEY-----\n")
	if diff := cmp.Diff([]string{"-----BEGIN KEY-----", "MIIE", "-----END KEY-----"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(masks(strings.Repeat("line", 2) + strings.Repeat("\nlonger line", 3))); n != 2 {
		t.Errorf("%d masks", n)
	}
}

// One line of ours is one command, and what it says is what was to be said.
func FuzzTold(f *testing.F) {
	f.Add("title", "Dockerfile", "text", "secret")
	f.Add("a\n::error::b", "a,line=1::b", "%0A::c", "::d::")
	f.Add("##vso[a]b", "a;type=b]c", "##[error]\r\n##vso[d]", "%AZP25]\n;")
	f.Fuzz(func(t *testing.T, title, file, text, secret string) {
		for _, provider := range []string{"github", "azure"} {
			var out bytes.Buffer
			d := New(provider, Options{Log: NewLog(&out), Getenv: func(string) string { return "" }})
			d.Group(title)
			d.Annotate(Annotation{Severity: Error, File: file, Line: 3, Text: text})
			d.Mask(secret)
			d.EndGroup()

			read, property := githubObeys, "file"
			if provider == "azure" {
				read, property = azureObeys, "sourcepath"
			}
			commands, err := read(out.String())
			if err != nil || len(commands) != 3+len(masks(secret)) || len(lines(out.String())) != len(commands) {
				t.Fatalf("%s obeys %v (%v) in %q", provider, commands, err, out.String())
			}
			// A percent sign is unescaped last, which is not unambiguous.
			differs := func(got, want string) bool { return got != want && !strings.Contains(want, "%") }
			if got := commands[1]; differs(got.Value, clean(text)) || differs(got.Properties[property], line(file)) {
				t.Errorf("%s is told %+v of %q and %q", provider, got, file, text)
			}
			for i, mask := range masks(secret) {
				if got := commands[2+i]; differs(got.Value, mask) {
					t.Errorf("%s masks %q, not %q", provider, got.Value, mask)
				}
			}
		}
	})
}
