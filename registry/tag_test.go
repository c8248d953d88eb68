package registry

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
	"pgregory.net/rapid"
)

func TestValidTagIsDockers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(`[-._A-Za-z0-9]{0,140}`),
			rapid.String(),
		).Draw(t, "text")
		docker := reference.TagRegexp.FindString(text) == text && text != ""
		if ValidTag(text) != docker {
			t.Fatalf("ValidTag(%q) = %v, for docker %v", text, !docker, docker)
		}
	})
}

func TestTagText(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text, want string
		exact      bool
	}{
		{"feat/x", "feat-x", true},
		{"Release_1.2-rc", "Release_1.2-rc", true},
		{"feat/#12 é", "feat--12--", false},
		{"a+b", "a-b", false},
		{"\xff", "-", false},
		{"", "", true},
	} {
		if got, exact := TagText(tc.text); got != tc.want || exact != tc.exact {
			t.Errorf("TagText(%q) = %q, %v, want %q, %v", tc.text, got, exact, tc.want, tc.exact)
		}
	}
}

func TestTagTextIsValidBehindALetter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Filter(func(s string) bool { return len(s) < MaxTagLength }).Draw(t, "text")
		tag, exact := TagText(text)
		if !ValidTag("x" + tag) {
			t.Fatalf("TagText(%q) = %q", text, tag)
		}
		if exact && tag != strings.ReplaceAll(text, "/", "-") {
			t.Fatalf("TagText(%q) = %q, said to be exact", text, tag)
		}
	})
}
