package report

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// escapeSequence is an ANSI escape sequence: CSI, OSC up to its terminator,
// or two characters (ECMA-48, section 5).
var escapeSequence = regexp.MustCompile(
	"(?:\x1b\\[|\u009b)[0-?]*[ -/]*[@-~]" + "|" +
		"(?:\x1b\\]|\u009d)[^\x07\x1b\u009c]*(?:\x07|\x1b\\\\|\u009c)?" + "|" +
		"\x1b[ -/]*[0-~]")

// azureCommand begins a logging command, which Azure obeys anywhere in a line.
var azureCommand = regexp.MustCompile(`(?i)##(vso)?\[`)

// clean makes one line of a text that somebody else wrote: no escape
// sequences, no control or formatting characters (which could overwrite or
// reorder what is shown), single spaces. Nor can it hold a command of a CI
// system: those of Azure, and GitHub's :: at the start of a line.
func clean(text string) string {
	text = escapeSequence.ReplaceAllString(text, "")
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	text = azureCommand.ReplaceAllString(text, "## ${1}[")
	if rest, found := strings.CutPrefix(text, "::"); found {
		text = ": :" + rest
	}
	return text
}

// ellipsis is ASCII: not every CI log is shown as UTF-8.
const ellipsis = "..."

// cut drops the end of a text that is longer than width.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(0, width-len(ellipsis))]) + ellipsis
}

// shorten drops the middle of a text that is longer than width: a tag starts
// with the branch and ends with the stage, and both matter.
func shorten(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	keep := max(0, width-len(ellipsis))
	return string(runes[:keep/2]) + ellipsis + string(runes[len(runes)-(keep-keep/2):])
}

// tag is what tells refs of one repository apart: the tag, else the digest.
func tag(ref string) string {
	name, digest, _ := strings.Cut(clean(ref), "@")
	name = name[strings.LastIndexByte(name, '/')+1:]
	if _, tag, found := strings.Cut(name, ":"); found {
		return clean(tag) // it may start with :: now
	}
	if digest != "" {
		return clean(digest)
	}
	return clean(name)
}

// some joins the first few of many texts.
func some(texts []string) string {
	const most = 4
	if len(texts) <= most {
		return strings.Join(texts, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(texts[:most], ", "), len(texts)-most)
}

// plural is a count of things that take an s.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// duration is a time for people: 0.4 s, 12 s, 4 m 12 s, 1 h 05 m.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if tenths := d.Round(100 * time.Millisecond); tenths < 10*time.Second {
		return fmt.Sprintf("%.1f s", tenths.Seconds())
	}
	if d = d.Round(time.Second); d < time.Minute {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	if d < time.Hour {
		return fmt.Sprintf("%d m %02d s", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %02d m", d/time.Hour, d%time.Hour/time.Minute)
}
