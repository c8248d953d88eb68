package proxies

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/shellcalls"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// idPrefix begins the ids of the secrets of proxies.
const idPrefix = stages.ReservedPrefix + "proxy."

// SecretID is the id of the secret by which steps are given a tool's proxy.
func SecretID(tool Tool) string { return idPrefix + string(tool) }

// ToolOf is the tool whose secret has an id.
func ToolOf(id string) (Tool, bool) {
	name, ok := strings.CutPrefix(id, idPrefix)
	_, known := managerOf(Tool(name))
	return Tool(name), ok && known
}

// Step is a RUN that can be led through proxies.
type Step struct {
	Stage int
	Line  int // first line of the instruction
	Tools []Tool
}

// Steps are the RUNs of a Dockerfile that call a package manager, in the order
// of the file. It depends on the file alone.
func Steps(f *stages.File) []Step {
	var steps []Step
	for _, stage := range f.Stages {
		for _, in := range stage.Instructions {
			if in.Run == nil {
				continue
			}
			if tools := toolsOf(in.Run); len(tools) > 0 {
				steps = append(steps, Step{stage.Index, in.Lines.First, tools})
			}
		}
	}
	return steps
}

// Edits are what makes the steps ask for proxies.
func Edits(steps []Step) []stages.Edit {
	var edits []stages.Edit
	for _, step := range steps {
		edit := stages.Edit{Line: step.Line}
		for _, tool := range step.Tools {
			m, _ := managerOf(tool)
			// Readable by all: package managers also run as other users.
			edit.Mounts = append(edit.Mounts, "type=secret,id="+SecretID(tool)+",target="+m.file+",mode=0444")
			if m.scratch != "" {
				edit.Mounts = append(edit.Mounts, "type=tmpfs,id="+SecretID(tool)+".scratch,target="+m.scratch)
			}
		}
		edits = append(edits, edit)
	}
	return edits
}

// toolsOf finds what a RUN can be led through. A script that cannot be read
// calls nothing.
func toolsOf(run *stages.Run) []Tool {
	if run.Network == "none" {
		return nil
	}
	var calls []shellcalls.Call
	var err error
	if run.Exec != nil {
		calls, err = shellcalls.Exec(run.Exec)
	} else {
		calls, err = shellcalls.Script(run.Script, run.Shell)
	}
	if err != nil {
		return nil
	}
	var tools []Tool
	for _, m := range managers {
		if m.used(calls) && !m.disturbs(calls) && !m.hidden(run.Mounts) {
			tools = append(tools, m.tool)
		}
	}
	return tools
}

// used tells whether a package manager is called, or named by the shell's null
// command: ": apt-get" is how a Dockerfile says that a script will call it.
func (m manager) used(calls []shellcalls.Call) bool {
	return slices.ContainsFunc(calls, func(c shellcalls.Call) bool {
		if c.Name == ":" {
			return hasWord(c, func(word string) bool { return m.uses(shellcalls.Call{Name: word}) })
		}
		return m.uses(c)
	})
}

// disturbs tells whether the mount could be in the way of a call: a mounted
// file can be neither deleted nor replaced, nor the directories above it.
func (m manager) disturbs(calls []shellcalls.Call) bool {
	return slices.ContainsFunc(calls, func(c shellcalls.Call) bool {
		switch c.Name {
		case "rm", "rmdir", "mv", "tar", "bsdtar", "unzip":
			return hasWord(c, m.covers)
		case "find":
			return hasWord(c, func(word string) bool { return word == "-delete" || word == "rm" }) && hasWord(c, m.covers)
		}
		return false
	})
}

// covers tells whether a word names the file, a directory above it other than
// those of the first level, or a pattern for one of them.
func (m manager) covers(word string) bool {
	for _, flag := range []string{"-C", "-d", "--directory="} {
		word = strings.TrimPrefix(word, flag)
	}
	word = path.Clean(word)
	for place := m.file; strings.Count(place, "/") > 1; place = path.Dir(place) {
		if matched, err := path.Match(word, place); matched || err != nil {
			return true
		}
	}
	// The patterns of the shell know more than those of path.Match.
	return strings.ContainsAny(word, "[{") && strings.HasPrefix(m.file, word[:strings.IndexAny(word, "[{")])
}

// hidden tells whether a mount of the step's own stands at the place or above
// it: what is mounted there may not let a mount point be made.
func (m manager) hidden(mounts []string) bool {
	return slices.ContainsFunc(mounts, func(place string) bool {
		if place == stages.UnknownPlace {
			return true
		}
		place = path.Join("/", place)
		return place == m.file || place == "/" || strings.HasPrefix(m.file, place+"/")
	})
}

// syntax is what a frontend's name begins with that is known to have secret
// mounts: docker/dockerfile from 1.2 on
// (docs.docker.com/build/buildkit/frontend/#official-releases).
var syntax = regexp.MustCompile(`^(docker\.io/)?docker/dockerfile(-upstream)?(:(1|1\.([2-9]|[1-9][0-9]+)(\.[0-9]+)?|master|labs|1-labs|1\.([2-9]|[1-9][0-9]+)(\.[0-9]+)?-labs))?(@sha256:[0-9a-f]{64})?$`)

// FrontendKnown tells whether the frontend that a file asks for by a syntax
// directive, "" for none, is known to understand the mounts.
func FrontendKnown(directive string) bool {
	return directive == "" || syntax.MatchString(directive)
}
