package ci

import (
	"net/url"
	"strings"
)

// ref is what a full git ref names; at most one field is set.
type ref struct{ branch, tag, pullRequest string }

// parseRef understands refs/heads/, refs/tags/ and refs/pull/N/merge or
// /head. A name without refs/ is a branch; any other ref is nothing.
func parseRef(full string) ref {
	if name, ok := strings.CutPrefix(full, "refs/heads/"); ok {
		return ref{branch: name}
	}
	if name, ok := strings.CutPrefix(full, "refs/tags/"); ok {
		return ref{tag: name}
	}
	if number, ok := pullRequestNumber(strings.TrimPrefix(full, "refs/")); ok {
		return ref{pullRequest: number}
	}
	if strings.HasPrefix(full, "refs/") {
		return ref{}
	}
	return ref{branch: full}
}

// pullRequestNumber finds N in pull/N, pull/N/merge and pull/N/head, and the
// same with pr/ (Jenkins' usual refspec). None of them is a branch on the
// platforms that use these names.
func pullRequestNumber(name string) (number string, ok bool) {
	rest, ok := strings.CutPrefix(name, "pull/")
	if !ok {
		rest, ok = strings.CutPrefix(name, "pr/")
	}
	number, kind, _ := strings.Cut(rest, "/")
	if !ok || !isNumber(number) || (kind != "" && kind != "merge" && kind != "head") {
		return "", false
	}
	return number, true
}

// mergeQueueBase finds the base in the name of a branch of GitHub's merge
// queue, gh-readonly-queue/BASE/pr-NUMBER-COMMIT.
// https://docs.github.com/en/repositories/configuring-branches-and-merges-in-your-repository/configuring-pull-request-merges/managing-a-merge-queue
func mergeQueueBase(branch string) (base string, ok bool) {
	rest, ok := strings.CutPrefix(branch, "gh-readonly-queue/")
	end := strings.LastIndex(rest, "/pr-")
	if !ok || end <= 0 {
		return "", false
	}
	return rest[:end], true
}

// trustByRepository compares where a pull request comes from with where it
// goes. An empty name leaves it unknown.
func trustByRepository(head, base string) Trust {
	switch {
	case head == "" || base == "":
		return TrustUnknown
	case head == base:
		return TrustOwn
	}
	return TrustFork
}

// trustByAddress does the same with addresses, which may spell one repository
// in several ways (git@host:owner/name.git, https://host/owner/name).
func trustByAddress(head, base string) Trust {
	return trustByRepository(repositoryKey(head), repositoryKey(base))
}

// repositoryKey is host/path for every spelling of an address, the path in
// its own case: where case does not matter a wrong "fork" costs a cache, a
// wrong "own" would cost trust. Empty for what is no address.
func repositoryKey(address string) string {
	if host, path, ok := strings.Cut(address, ":"); ok && !strings.Contains(address, "://") && !strings.Contains(host, "/") {
		address = "ssh://" + host + "/" + strings.TrimPrefix(path, "/") // scp's way
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	path := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	if path == "" {
		return ""
	}
	return strings.ToLower(u.Hostname()) + "/" + path
}
