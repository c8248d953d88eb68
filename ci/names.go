package ci

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNameLength in bytes. Git has no limit of its own, file systems stop a
// path at 4096 and hosts far earlier; a longer name is an attack or a mistake.
const maxNameLength = 1024

// checkBranch tells why a branch's name cannot be used. It refuses what can
// harm a log or a terminal, which is more than git does (text that runs right
// to left, for one), but knows no other rule of git: some platforms write
// names that git would not take, such as owner:branch.
func checkBranch(name string) error {
	if fault := faultOf(name); fault != "" {
		return fmt.Errorf("branch name %.80q %s", name, fault)
	}
	return nil
}

// faultOf says what is wrong with a name; empty if nothing is.
func faultOf(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > maxNameLength:
		return fmt.Sprintf("is longer than %d bytes", maxNameLength)
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	case strings.ContainsFunc(name, isHarmful):
		return "contains control characters"
	}
	return ""
}

// isHarmful finds runes that do something other than being seen: control
// characters, line and paragraph separators, and those that change the
// direction of text (https://www.unicode.org/reports/tr36/#Bidirectional_Text_Spoofing).
func isHarmful(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// refuseBadNames empties what should not be used and says so.
func (p *platform) refuseBadNames(f *Facts) {
	if p.refuse(&f.Branch, "branch") {
		// Not left for git to fill: the platform did name a branch, and it
		// is not the one that git would find.
		f.BranchSource = fmt.Sprintf("%s cannot be used", cmp.Or(f.BranchSource, "the platform's name"))
	}
	if p.refuse(&f.DefaultBranch, "default branch") {
		f.DefaultBranchSource = ""
	}
	p.refuse(&f.BaseBranch, "base branch")
	p.refuse(&f.Tag, "tag")
	p.refuse(&f.Event, "event")
	if pr := f.PullRequest; pr != nil {
		p.refuse(&pr.Head, "pull request's branch")
		p.refuse(&pr.HeadRepository, "pull request's repository")
		if !isNumber(pr.Number) {
			pr.Number = ""
		}
	}
	if !isObjectName(f.Commit) {
		f.Commit = "" // Buildkite, for one, says HEAD before checkout.
	}
}

// refuse empties a name that must not be used, and tells whether it did.
func (p *platform) refuse(name *string, what string) bool {
	fault := faultOf(*name)
	if *name == "" || fault == "" {
		return false
	}
	p.warnf("ignored the %s %.80q, which %s", what, *name, fault)
	*name = ""
	return true
}

func isNumber(s string) bool {
	return s != "" && len(s) <= 20 && strings.Trim(s, "0123456789") == ""
}

// isObjectName tells whether s is a commit's name, perhaps cut short.
func isObjectName(s string) bool {
	return len(s) >= 7 && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}
