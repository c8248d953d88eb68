package engine

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
)

// written turns what an engine says of an edited Dockerfile into what it would
// say of the one that people wrote.
type written struct {
	file   *stages.File
	hidden []string // values that are masked
}

// minHidden is the length of the shortest value that is masked, in bytes: of a
// shorter one the log would be full.
const minHidden = 4

// mask hides values.
func (w written) mask(s string) string {
	for _, value := range w.hidden {
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); len(line) >= minHidden {
				s = strings.ReplaceAll(s, line, "***")
			}
		}
	}
	return s
}

// ownMount is a mount that an edit put into a RUN.
var ownMount = regexp.MustCompile(` --mount=\S*\bid=` + regexp.QuoteMeta(stages.ReservedPrefix) + `\S*`)

// text is for names of steps and messages that repeat a command.
func (w written) text(s string) string {
	if w.file == nil {
		return s
	}
	s = ownMount.ReplaceAllLiteralString(s, "")
	for _, prelude := range w.file.Preludes() {
		s = strings.ReplaceAll(s, prelude+" ", "")
	}
	return s
}

// source is for excerpts of the Dockerfile, which keep the numbers of lines.
func (w written) source(data []byte) []byte {
	if w.file != nil && bytes.HasPrefix(data, w.file.Source) {
		return w.file.Original()
	}
	return data
}

// status copies what it changes: names identify vertices elsewhere.
func (w written) status(status *bkclient.SolveStatus) *bkclient.SolveStatus {
	if len(w.hidden) == 0 && (w.file == nil || bytes.Equal(w.file.Source, w.file.Original())) {
		return status
	}
	shown := *status
	shown.Vertexes, shown.Warnings, shown.Logs = nil, nil, nil
	for _, l := range status.Logs {
		copied := *l
		copied.Data = []byte(w.mask(string(l.Data)))
		shown.Logs = append(shown.Logs, &copied)
	}
	for _, v := range status.Vertexes {
		copied := *v
		copied.Name, copied.Error = w.mask(w.text(v.Name)), w.mask(w.text(v.Error))
		shown.Vertexes = append(shown.Vertexes, &copied)
	}
	for _, v := range status.Warnings {
		copied := *v
		if v.SourceInfo != nil {
			copied.SourceInfo = &pb.SourceInfo{
				Filename: v.SourceInfo.Filename, Data: w.source(v.SourceInfo.Data),
				Definition: v.SourceInfo.Definition, Language: v.SourceInfo.Language,
			}
		}
		shown.Warnings = append(shown.Warnings, &copied)
	}
	return &shown
}
