package credential_test

import (
	"strings"
	"testing"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/credential"
)

func TestKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, value, want string }{
		{"INDEX_URL", "https://build:abcdef@pkgs.example.com/simple/", "a URL with a password"},
		{"INDEX_URL", "https://abcdef@pkgs.example.com/simple/", "a URL with a user"},
		{"URLS", "https://a.example.com/ ftp://a:b@c.example.com/", "a URL with a password"},
		{"REPO", "ssh://git@example.com/a.git", ""},
		{"REPO", "https://example.com/a@b", ""},
		// The tokens are made up, and put together so that no scanner takes this file for a leak.
		{"X", "ghp" + "_" + "16C7e42F292c6912E7710c838347Ae178B4a", "github-pat"},
		{"X", "glpat" + "-" + "aB3dE6gH9jK2mN5pQ8sT", "gitlab-pat"},
		{"X", "npm" + "_" + "aB3dE6gH9jK2mN5pQ8sTaB3dE6gH9jK2mN5p", "npm-access-token"},
		{"X", "AKIA" + "2E0A8F3B244C9986", ""}, // not of AWS's alphabet
		{"X", "AKIA" + "QYLPMN5HHHFPZAM2", "aws-access-token"},
		{"API_TOKEN", "kd83jf9s02jd8fkw93mx7ql1", "generic-api-key"},
		{"VERSION", "1.2.3-rc.1", ""},
		{"GIT_COMMIT", "2f1c5b0e0a7d4a9c8b7e6f5d4c3b2a1908f7e6d5", ""},
		{"BUILD_DATE", "2026-11-23T05:52:07Z", ""},
		{"API_TOKEN", "short", ""},
		{"IMAGE", "docker.io/library/debian:bookworm-slim", ""},
		{"EMPTY", "", ""},
		{"LONG", "https://a:b@c/" + strings.Repeat("x", 1<<15), ""},
	} {
		got := credential.Kind(c.name, c.value)
		if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s=%s is %q, want %q", c.name, c.value, got, c.want)
		}
		if len(c.value) >= 8 && strings.Contains(got, c.value) {
			t.Errorf("%q tells the value", got)
		}
	}
}

func FuzzKind(f *testing.F) {
	f.Add("NAME", "https://a:b@c")
	f.Add("TOKEN", "kd83jf9s02jd8fkw93mx7ql1")
	f.Fuzz(func(t *testing.T, name, value string) {
		if kind := credential.Kind(name, value); len(kind) > 100 {
			t.Errorf("%q", kind)
		}
	})
}

func BenchmarkKind(b *testing.B) {
	for b.Loop() {
		credential.Kind("GIT_COMMIT", "2f1c5b0e0a7d4a9c8b7e6f5d4c3b2a1908f7e6d5")
	}
}
