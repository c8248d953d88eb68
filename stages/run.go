package stages

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// runOf gives what a RUN runs, as convert.go's dispatchRun hands it on.
func runOf(c *instructions.RunCommand, shell []string) *Run {
	if !c.PrependShell {
		return &Run{Exec: c.CmdLine}
	}
	r := &Run{Script: strings.Join(c.CmdLine, " "), Shell: shell}
	if len(c.Files) == 0 || len(c.CmdLine) != 1 {
		return r
	}
	if heredoc, err := parser.ParseHeredoc(c.CmdLine[0]); err == nil && heredoc != nil {
		r.Script = c.Files[0].Data
		if c.Files[0].Chomp {
			r.Script = parser.ChompHeredocContent(r.Script)
		}
		return r
	}
	var script strings.Builder
	script.WriteString(c.CmdLine[0])
	for _, file := range c.Files {
		script.WriteString("\n" + file.Data + file.Name)
	}
	r.Script = script.String()
	return r
}
