package ci

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGithubBadPayload: without its payload a pull request is still one, but
// is trusted no longer.
func TestGithubBadPayload(t *testing.T) {
	huge := io.MultiReader(strings.NewReader(`{"repository":"`), bytes.NewReader(make([]byte, maxEventSize)))
	tests := map[string]struct {
		open func(string) (io.ReadCloser, error)
		want string
	}{
		"absent":     {openIn(t.TempDir()), "no such file"},
		"cut short":  {openText(`{"pull_request":{"number":12,"head":{"ref":"feat/x","repo":{"full_name":"acme/app"}`), "parse"},
		"wrong type": {openText(`{"pull_request":{"number":"12"}}`), "parse"},
		"two values": {openText(`{} {"pull_request":{}}`), "parse"},
		"too large":  {func(string) (io.ReadCloser, error) { return io.NopCloser(huge), nil }, "larger"},
		"unreadable": {func(string) (io.ReadCloser, error) { return io.NopCloser(brokenReader{}), nil }, "disk is on fire"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts, warnings := Detect(t.Context(), Input{
				Getenv: lookup(map[string]string{
					"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": "event.json",
					"GITHUB_REF": "refs/pull/12/merge", "GITHUB_HEAD_REF": "feat/x", "GITHUB_BASE_REF": "main",
				}),
				Open: tt.open,
				Git:  recordedGit,
			})
			if facts.Branch != "feat/x" || facts.BaseBranch != "main" || facts.PullRequest.Number != "12" || facts.Trust != TrustUnknown {
				t.Errorf("got %+v", facts)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], tt.want) {
				t.Errorf("warnings %q, want one with %q", warnings, tt.want)
			}
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("disk is on fire") }

func openText(text string) func(string) (io.ReadCloser, error) {
	return func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

// TestGithubRefName serves servers that set no GITHUB_REF.
func TestGithubRefName(t *testing.T) {
	for kind, want := range map[string][2]string{"branch": {"v1", ""}, "tag": {"", "v1"}} {
		facts, _ := Detect(t.Context(), Input{Getenv: lookup(map[string]string{
			"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_REF_NAME": "v1", "GITHUB_REF_TYPE": kind,
		})})
		if got := [2]string{facts.Branch, facts.Tag}; got != want {
			t.Errorf("%s: branch and tag %q, want %q", kind, got, want)
		}
	}
}

// FuzzGithubEvent feeds payloads to events that trust them. Whatever they
// hold, nothing harmful comes out and no stranger is trusted.
func FuzzGithubEvent(f *testing.F) {
	payloads, err := filepath.Glob("testdata/github/*.event.json")
	if err != nil || len(payloads) == 0 {
		f.Fatalf("no payloads: %v", err)
	}
	for _, path := range payloads {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"pull_request":{"number":-1,"head":{"ref":"\u001b[2J","repo":{"full_name":"a\nb"}},"base":{}}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		event, _ := parseGithubEvent(payload)
		for _, name := range []string{"push", "pull_request", "pull_request_target", "workflow_run", "issue_comment", "merge_group"} {
			facts, warnings := Detect(t.Context(), Input{
				Getenv: lookup(map[string]string{
					"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": name, "GITHUB_EVENT_PATH": "event.json",
					"GITHUB_REF": "refs/heads/main",
				}),
				Open: openText(string(payload)),
				Git:  recordedGit,
			})
			checkHarmless(t, facts, warnings)
			pull := event.PullRequest
			if facts.Trust != TrustOwn || name == "workflow_run" || pull == nil {
				continue
			}
			if pull.Head.Repo == nil || pull.Head.Repo.FullName == "" {
				t.Errorf("%s: trusts a head from nowhere: %+v", name, facts)
			}
		}
	})
}
