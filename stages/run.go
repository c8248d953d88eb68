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

// mountTargets gives where the mounts of a RUN stand. BuildKit's parser reads
// a mount to its end only when it expands it: here to what is written. One that
// makes no sense so is at a place that only the build knows.
func mountTargets(c *instructions.RunCommand) []string {
	if err := c.Expand(func(word string) (string, error) { return word, nil }); err != nil {
		return []string{"$"}
	}
	var targets []string
	for _, m := range instructions.GetMounts(c) {
		if m.Target != "" {
			targets = append(targets, m.Target)
		}
	}
	return targets
}

// networkOf gives the --network of a RUN. BuildKit's parser makes the default
// of a flag that is not given, so the flag itself is looked for.
func networkOf(c *instructions.RunCommand) string {
	for _, flag := range c.FlagsUsed {
		if flag == "network" {
			return instructions.GetNetwork(c)
		}
	}
	return ""
}
