package dialect

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// Log is the output of a job, for what others wrote and for commands.
type Log struct {
	mu      sync.Mutex
	out     io.Writer
	defuser defuser
	within  bool // a line has begun and not ended
}

// NewLog makes a Log that writes to out.
func NewLog(out io.Writer) *Log { return &Log{out: out} }

// Write writes what may be anybody's text. It reaches the output at once,
// with a space put into whatever a platform could take for a command.
func (l *Log) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(text) == 0 {
		return 0, nil
	}
	if _, err := l.out.Write(l.defuser.defuse(text)); err != nil {
		return 0, err
	}
	l.within = text[len(text)-1] != '\n'
	return len(text), nil
}

// errLines is a command that would be several lines, of which a platform
// would obey the first and take the others for commands too.
var errLines = errors.New("a command is one line")

// command writes one line that the platform is to obey.
func (l *Log) command(line []byte) error {
	line = bytes.TrimRight(line, "\r\n")
	if bytes.ContainsAny(line, "\r\n") {
		return errLines
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var text []byte
	if l.within {
		text = append(text, '\n')
	}
	// What others write next begins a line, even if to them it does not.
	l.within, l.defuser = false, defuser{}
	_, err := l.out.Write(append(append(text, line...), '\n'))
	return err
}

// defuser puts a space into every command of a CI platform that it finds in a
// text, which may come in any number of pieces. It knows
//
//   - GitHub's ::name:: at the start of a line, after white space
//     (actions/runner, ActionCommand.TryParseV2),
//   - Azure's ##vso[...], GitHub's older ##[...] (ActionCommand.TryParse) and
//     TeamCity's ##teamcity[...], anywhere in a line.
//
// Readers are .NET programs: they end a line at a carriage return too, and
// compare texts by rules of a culture, by which control and many other
// characters count as nothing. So does everything here that is not printable
// ASCII.
type defuser struct {
	colons lineStart
	hashes int // 0 to 2; 3 is letters after two
}

type lineStart int

const (
	atStart lineStart = iota
	afterColon
	within
)

func (d *defuser) defuse(text []byte) []byte {
	defused := make([]byte, 0, len(text)+8)
	for _, c := range text {
		if d.completes(c) {
			defused = append(defused, ' ')
		}
		defused = append(defused, c)
	}
	return defused
}

// completes tells whether c makes what came before it the beginning of a
// command.
func (d *defuser) completes(c byte) bool {
	switch {
	case c == '\n', c == '\r':
		*d = defuser{}
		return false
	case c < ' ', c > '~':
		return false
	}
	colons, bracket := d.colons == afterColon && c == ':', d.hashes >= 2 && c == '['
	switch {
	case d.colons == atStart && c == ' ':
	case d.colons == atStart && c == ':':
		d.colons = afterColon
	default:
		d.colons = within
	}
	switch letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'; {
	case c == '#' && d.hashes < 2:
		d.hashes++
	case c == '#' && d.hashes == 2:
	case c == '#':
		d.hashes = 1
	case letter && d.hashes >= 2:
		d.hashes = 3
	default:
		d.hashes = 0
	}
	return colons || bracket
}

// defuse is the text without a command in any of its lines.
func defuse(text string) string {
	var d defuser
	return string(d.defuse([]byte(text)))
}
