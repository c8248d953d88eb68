package stages

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// MaxText bounds Instruction.Text, in characters.
const MaxText = 120

// instructionText is the instruction on one line, continuation lines joined.
// Heredocs all start with the same words, so the first line of the first body
// is told too.
func instructionText(node *parser.Node) string {
	text := node.Original
	if len(node.Heredocs) > 0 {
		first, _, more := strings.Cut(strings.TrimSpace(node.Heredocs[0].Content), "\n")
		if more {
			first += "…"
		}
		text += " (" + first + ")"
	}
	return oneLine(text, MaxText)
}

// oneLine folds white space, replaces what does not print (the text of a
// Dockerfile ends up on terminals) and cuts to limit characters.
func oneLine(text string, limit int) string {
	folded := []rune(strings.Join(strings.Fields(text), " "))
	if len(folded) > limit {
		folded = append(folded[:limit-1], '…')
	}
	for i, r := range folded {
		if !unicode.IsPrint(r) {
			folded[i] = utf8.RuneError
		}
	}
	return string(folded)
}
