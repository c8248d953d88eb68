package registry

import "strings"

// MaxTagLength is the length of the longest tag, in characters (OCI
// distribution specification 1.1, "Pulling manifests").
const MaxTagLength = 128

// ValidTag reports whether a registry takes the text as a tag:
// [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}.
func ValidTag(text string) bool {
	if text == "" || len(text) > MaxTagLength || text[0] == '.' || text[0] == '-' {
		return false
	}
	for i := range len(text) {
		if !tagByte(text[i]) {
			return false
		}
	}
	return true
}

// TagText makes a text that may stand anywhere in a tag but at its front,
// where . and - are not allowed. A slash becomes a dash, as people expect of
// branch names; exact tells that nothing else had to be replaced. The text is
// not cut and stays empty if it was.
func TagText(text string) (tag string, exact bool) {
	exact = true
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '/':
			b.WriteByte('-')
		case r < 0x80 && tagByte(byte(r)):
			b.WriteRune(r)
		default:
			b.WriteByte('-')
			exact = false
		}
	}
	return b.String(), exact
}

func tagByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
}
