package shellcalls

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

func words(parsed []*syntax.Word) []Word {
	var list []Word
	for _, w := range parsed {
		list = append(list, wordOf(w))
	}
	return list
}

func wordOf(w *syntax.Word) Word {
	var text strings.Builder
	for _, part := range w.Parts {
		if !appendPart(&text, part, false) {
			return Word{Text: text.String()}
		}
	}
	return Word{Text: text.String(), Known: true}
}

// appendPart writes a part as the shell reads it; false for one that the
// shell expands.
func appendPart(text *strings.Builder, part syntax.WordPart, quoted bool) bool {
	switch p := part.(type) {
	case *syntax.Lit:
		unescape(text, p.Value, quoted)
	case *syntax.SglQuoted:
		if p.Dollar && strings.Contains(p.Value, `\`) {
			return false
		}
		text.WriteString(p.Value)
	case *syntax.DblQuoted:
		for _, inner := range p.Parts {
			if !appendPart(text, inner, true) {
				return false
			}
		}
	default:
		return false
	}
	return true
}

// unescape takes away the backslashes that quote (POSIX shell, 2.2.1, 2.2.3).
func unescape(text *strings.Builder, value string, quoted bool) {
	for i := 0; i < len(value); i++ {
		if value[i] != '\\' || i+1 == len(value) {
			text.WriteByte(value[i])
			continue
		}
		next := value[i+1]
		switch {
		case next == '\n':
			i++
		case !quoted || strings.IndexByte("$`\"\\", next) >= 0:
			text.WriteByte(next)
			i++
		default:
			text.WriteByte('\\')
		}
	}
}

func assignments(parsed []*syntax.Assign) []Assignment {
	var list []Assignment
	for _, a := range parsed {
		if a.Name == nil || a.Naked || a.Append || a.Index != nil || a.Array != nil {
			continue
		}
		set := Assignment{Name: a.Name.Value, Value: Word{Known: true}}
		if a.Value != nil {
			set.Value = wordOf(a.Value)
		}
		list = append(list, set)
	}
	return list
}

// heredoc is the text that a statement reads, "" for none or one that the
// shell expands.
func heredoc(s *syntax.Stmt) string {
	for _, redirect := range s.Redirs {
		if redirect.Hdoc == nil {
			continue
		}
		var text strings.Builder
		for _, part := range redirect.Hdoc.Parts {
			lit, ok := part.(*syntax.Lit)
			switch {
			case !ok:
				return ""
			case verbatim(redirect.Word):
				text.WriteString(lit.Value)
			default:
				unescape(&text, lit.Value, true)
			}
		}
		return text.String()
	}
	return ""
}

// verbatim tells whether a heredoc's delimiter is quoted: nothing is expanded.
func verbatim(delimiter *syntax.Word) bool {
	for _, part := range delimiter.Parts {
		if lit, ok := part.(*syntax.Lit); !ok || strings.Contains(lit.Value, `\`) {
			return true
		}
	}
	return false
}
