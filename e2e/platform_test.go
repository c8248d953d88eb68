package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const hostileDockerfile = `FROM BASE AS builder
RUN --mount=type=secret,id=token printf '::set-output name=digest::evil\n##vso[task.setvariable variable=digest]evil\n'; cat /run/secrets/token >/dev/null
FROM BASE
COPY --from=builder /bin/sh /shell
RUN echo '::error::evil'; `

// What the run tells GitHub and Azure is all that they obey.
func TestPlatformsAreTold(t *testing.T) {
	t.Parallel()
	for _, platform := range []struct {
		recorded string
		lines    []string // the beginnings of commands
		summary  string   // files
		branch   string   // as part of a tag
	}{
		{"github/push", []string{"::add-mask::s3cr3t", "::group::build ", "::endgroup::", "::error file=Dockerfile,line=5::"}, "summary", "feat-x"},
		{"azure/branch", []string{"##vso[task.setsecret]s3cr3t", "##[group]build ", "##[endgroup]",
			"##vso[task.logissue type=error;sourcepath=Dockerfile;linenumber=5]"}, "summary-*/*.md", "feature-tools"},
	} {
		t.Run(strings.ReplaceAll(platform.recorded, "/", "-"), func(t *testing.T) {
			r := onBuildKit(t)
			dir := t.TempDir()
			on := r.as(t, platform.recorded, "TOKEN=s3cr3t", "GITHUB_WORKSPACE="+r.dir, "BUILD_SOURCESDIRECTORY="+r.dir,
				"GITHUB_OUTPUT="+filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY="+filepath.Join(dir, "summary"),
				"RUNNER_TEMP="+dir, "AGENT_TEMPDIRECTORY="+dir).with("--secret", "id=token,env=TOKEN", "--default-branch", "master")

			r.write(t, "Dockerfile", hostileDockerfile+"false\n")
			o := on.run(t, 1, r.image("1"))
			for _, want := range platform.lines {
				if !strings.Contains("\n"+o.stderr, "\n"+want) {
					t.Errorf("no line begins with %q:\n%s", want, o.stderr)
				}
			}
			for line := range strings.Lines(o.stderr) {
				if strings.HasPrefix(strings.TrimSpace(line), "::set-output") || strings.HasPrefix(strings.TrimSpace(line), "::error::evil") ||
					strings.Contains(line, "##vso[task.setvariable variable=digest]evil") {
					t.Errorf("the build's output would be obeyed: %s", line)
				}
			}

			r.write(t, "Dockerfile", hostileDockerfile+"true\n")
			o = on.run(t, 0, r.image("1"))
			told := o.stderr + read(t, filepath.Join(dir, "output")) + read(t, filepath.Join(dir, platform.summary))
			digest := o.report.Result.Digest
			for _, want := range []string{"| `builder` | `" + platform.branch + "-builder` (`branch`)", "| time saved |", "0.66", "- digest `" + digest + "`"} {
				if !strings.Contains(told, want) {
					t.Errorf("%q is not told:\n%s", want, told)
				}
			}
			if digest == "" || !strings.Contains(told, "\n"+digest+"\n") && !strings.Contains(told, "##vso[task.setvariable variable=digest;isOutput=true]"+digest+"\n") {
				t.Errorf("the digest %q is no output:\n%s", digest, told)
			}
		})
	}
}

// read reads the files of a pattern, which may be none.
func read(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
