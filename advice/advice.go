// Package advice tells which RUN instructions of a Dockerfile call a package
// manager without a cache mount, with the exact mount that each lacks, and
// what else stands in the way of one.
//
// It only says what the text of the Dockerfile shows to be right: a mount that
// would hide what later steps, other stages or the container need is not
// advised, nor one whose place cannot be told. The package does no I/O.
//
// No API stability is promised: the product is the command.
package advice

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// Finding is one line of advice.
type Finding struct {
	// Stage is the index of the stage, Line the first line of the RUN.
	Stage, Line int
	// Tool is the package manager, such as apt or pip, or docker-clean for
	// what empties apt's cache in Debian's images.
	Tool string
	// Command is the command as people would name it, such as "npm ci".
	Command string
	// Mounts are to be added to the RUN.
	Mounts []Mount
	// Remove are the parts of the Dockerfile that would empty the mounts or
	// keep the tool from using them.
	Remove []string
	// Before is an instruction to put before the RUN, "" for none.
	Before string
}

// Mount is a cache mount. It is kept apart from others by its Target.
type Mount struct {
	Target string
	// Locked makes a step wait for others that use the mount: the tool cannot
	// share it.
	Locked bool
	// UID and GID are the owner of a new mount, "" for root.
	UID, GID string
	// Open lets everybody write to a new mount: the user's number is not known.
	Open bool

	// obstructed says that the step's own text empties the mount or would fail
	// on it; strange that a directory above it may be made for it, as root.
	obstructed, strange bool
}

func (m Mount) options() string {
	text := "target=" + m.Target
	if strings.ContainsAny(text, `," `) {
		text = strconv.Quote(text)
	}
	if m.Locked {
		text += ",sharing=locked"
	}
	if m.UID != "" {
		text += ",uid=" + m.UID
	}
	if m.GID != "" {
		text += ",gid=" + m.GID
	}
	if m.Open {
		text += ",mode=0777"
	}
	return text
}

// Flag is the mount as a flag of RUN.
func (m Mount) Flag() string { return "--mount=type=cache," + m.options() }

// Text is the advice without the line, on one line.
func (f Finding) Text() string {
	if f.Before != "" {
		return fmt.Sprintf("Debian's docker-clean empties apt's cache; put before this step: %s", f.Before)
	}
	var parts []string
	if len(f.Mounts) > 0 {
		var flags []string
		for _, m := range f.Mounts {
			flags = append(flags, m.Flag())
		}
		parts = append(parts, "add "+strings.Join(flags, " "))
	}
	if len(f.Remove) > 0 {
		parts = append(parts, "leave out "+strings.Join(f.Remove, ", "))
	}
	return fmt.Sprintf("%s could keep what it downloads: %s", f.Command, strings.Join(parts, "; "))
}

// Find gives the advice for some stages of a file, in the order of its lines.
// A text that a parser would not understand gets none.
func Find(f *stages.File, among []int) []Finding {
	var found []Finding
	d := newDockerfile(f)
	for _, stage := range slices.Sorted(slices.Values(among)) {
		for _, s := range d.steps[stage] {
			found = append(found, d.advise(s)...)
		}
	}
	return found
}
