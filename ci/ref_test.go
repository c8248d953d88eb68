package ci

import "testing"

func TestParseRef(t *testing.T) {
	for full, want := range map[string]ref{
		"":                          {},
		"main":                      {branch: "main"},
		"refs/heads/feature/tools":  {branch: "feature/tools"},
		"refs/heads/refs/heads/x":   {branch: "refs/heads/x"},
		"refs/heads/pull/12":        {branch: "pull/12"},
		"refs/tags/v1":              {tag: "v1"},
		"refs/pull/12/merge":        {pullRequest: "12"},
		"refs/pull/12/head":         {pullRequest: "12"},
		"refs/pull/12/elsewhere":    {},
		"refs/pull/x/merge":         {},
		"refs/merge-requests/12/it": {},
		"refs/notes/commits":        {},
	} {
		if got := parseRef(full); got != want {
			t.Errorf("parseRef(%q) = %+v, want %+v", full, got, want)
		}
	}
}

func TestMergeQueueBase(t *testing.T) {
	for branch, want := range map[string]string{
		"gh-readonly-queue/main/pr-12-4f8b":      "main",
		"gh-readonly-queue/release/2/pr-12-4f8b": "release/2",
		"gh-readonly-queue/a/pr-1-b/pr-12-4f8b":  "a/pr-1-b",
		"gh-readonly-queue/pr-12-4f8b":           "",
		"gh-readonly-queue//pr-12-4f8b":          "",
		"gh-readonly-queue/main":                 "",
		"main/pr-12-4f8b":                        "",
	} {
		if got, ok := mergeQueueBase(branch); got != want || ok != (want != "") {
			t.Errorf("mergeQueueBase(%q) = %q, %t, want %q", branch, got, ok, want)
		}
	}
}

func TestTrustByAddress(t *testing.T) {
	const base = "git@github.com:acme/app.git"
	for head, want := range map[string]Trust{
		"git@github.com:acme/app.git":             TrustOwn,
		"https://github.com/acme/app":             TrustOwn,
		"https://token@GitHub.com/acme/app.git":   TrustOwn,
		"git://github.com/acme/app.git":           TrustOwn,
		"ssh://git@github.com:22/acme/app.git/":   TrustOwn,
		"https://github.com/stranger/app.git":     TrustFork,
		"https://github.com/acme/app2.git":        TrustFork,
		"https://example.com/acme/app.git":        TrustFork,
		"https://github.com.example.com/acme/app": TrustFork,
		"https://github.com/Acme/App":             TrustFork, // only a cache is lost
		"":                                        TrustUnknown,
		"acme/app":                                TrustUnknown,
		"/srv/git/app.git":                        TrustUnknown,
		"https://github.com/":                     TrustUnknown,
		"http://[::1":                             TrustUnknown,
	} {
		if got := trustByAddress(head, base); got != want {
			t.Errorf("trustByAddress(%q) = %s, want %s", head, got, want)
		}
	}
	if got := trustByAddress("https://github.com/acme/app", ""); got != TrustUnknown {
		t.Errorf("without a base: %s", got)
	}
}
