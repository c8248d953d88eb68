package dialect

import (
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds the text of a title or an annotation, in bytes: GitHub shows
// no more than 4096 of a message.
const maxText = 4000

// clean makes a text of others fit to be shown by a platform: no control or
// formatting characters but line breaks, no commands, a bounded length.
func clean(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) > maxText {
		end := maxText
		for !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + "..."
	}
	return defuse(strings.TrimSpace(text))
}

// line is clean on one line.
func line(text string) string { return strings.Join(strings.Fields(clean(text)), " ") }

// What of a secret is masked: each of its lines, since logs are searched line
// by line, but none so short that it would black out the log, and not more
// than a key or a certificate has.
const (
	minMask  = 4
	maxMasks = 200
)

func masks(secret string) []string {
	var all []string
	for piece := range strings.FieldsFuncSeq(secret, func(r rune) bool { return r == '\n' || r == '\r' }) {
		piece = strings.TrimSpace(piece)
		if len(piece) >= minMask && len(all) < maxMasks && !slices.Contains(all, piece) {
			all = append(all, piece)
		}
	}
	return all
}

// relativeTo is the path of a file as seen from the root of a checkout, which
// is how platforms name files; as it is where it lies elsewhere.
func relativeTo(root, file string) string {
	if root == "" || file == "" {
		return file
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return file
	}
	relative, err := filepath.Rel(root, absolute)
	if err != nil || !filepath.IsLocal(relative) {
		return file
	}
	return filepath.ToSlash(relative)
}
