package report

import (
	"fmt"
	"strings"
)

// Mount is a cache mount (RUN --mount=type=cache) that is kept beside the
// layers.
type Mount struct {
	// Name is its id or target, with what else identifies it.
	Name   string   `json:"name"`
	Stages []string `json:"stages"` // that have it
	// Used: a step with it ran, or began to.
	Used bool `json:"used"`
	// Restored is nil where there was nothing to restore, or nobody needed it.
	Restored *MountRestored `json:"restored"`
	// Changes is nil where they were not looked for.
	Changes *MountChanges `json:"changes"`
	Saved   []Saved       `json:"saved"`
	// Note says why it is not restored or not saved.
	Note string `json:"note,omitempty"`
}

// MountRestored is how a mount was filled.
type MountRestored struct {
	Ref   string `json:"ref"`
	Level string `json:"level"`
	// Warm: the engine had it; it was left as it is.
	Warm bool `json:"warm,omitempty"`
	// Entries are files, directories and links; Bytes the size of the files.
	Entries    int     `json:"entries"`
	Bytes      int64   `json:"bytes"`
	Downloaded int64   `json:"downloaded"`
	Seconds    float64 `json:"seconds"`
	Error      string  `json:"error,omitempty"`
}

// MountChanges is what steps have made of a mount.
type MountChanges struct {
	// New files have contents that were not kept before, of NewBytes; Changed
	// entries are new or other than they were, Removed are gone.
	New      int   `json:"new"`
	Changed  int   `json:"changed"`
	Removed  int   `json:"removed"`
	NewBytes int64 `json:"newBytes"`
	// Uploaded is what was sent, in bytes.
	Uploaded int64 `json:"uploaded"`
	// Entries and Bytes are of the whole mount.
	Entries int     `json:"entries"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// mostMountName bounds the name of a mount, in characters.
const mostMountName = 60

// describe tells the two halves of a mount's run for people: how it began and
// what was kept of it.
func (m Mount) describe() (restored, saved string) {
	restored, saved = "began empty", "not saved"
	switch from := m.Restored; {
	case from != nil && from.Error != "":
		restored = "not restored: " + cut(clean(from.Error), mostMessage)
	case from != nil && from.Warm:
		restored = "warm in the engine"
	case from != nil:
		restored = fmt.Sprintf("%s restored (%s) in %s", size(from.Bytes), cut(clean(from.Level), mostLevel), duration(from.Seconds))
	case !m.Used:
		return "not used", ""
	}
	written := false
	for _, s := range m.Saved {
		written = written || s.Error == ""
	}
	switch {
	case written && m.Changes != nil:
		saved = fmt.Sprintf("%s saved, %s in %s", plural(m.Changes.New, "new file"), size(m.Changes.Uploaded), duration(m.Changes.Seconds))
	case len(m.Saved) > 0:
		saved = "lost"
	case m.Changes != nil:
		saved = "unchanged"
	}
	return restored, saved
}

// mounts prints a line for each mount.
func (p *printer) mounts(r Report) {
	var lines []string
	for _, m := range r.Mounts {
		restored, saved := m.describe()
		line := fmt.Sprintf("cache mount %s: %s", cut(clean(m.Name), mostMountName), restored)
		if saved != "" {
			line += "; " + saved
		}
		if m.Note != "" {
			line += " (" + cut(clean(m.Note), mostMessage) + ")"
		}
		lines = append(lines, line)
	}
	p.lines(plain, lines)
	if len(lines) > 0 {
		p.blank()
	}
}

// markdownMounts is the table of the mounts.
func (r Report) markdownMounts(b *strings.Builder) {
	if len(r.Mounts) == 0 {
		return
	}
	b.WriteString("| cache mount | restored | saved | note |\n|---|---|---|---|\n")
	for i, m := range r.Mounts {
		if i == mostMarkdownRows {
			fmt.Fprintf(b, "\nand %s more\n", plural(len(r.Mounts)-i, "cache mount"))
			break
		}
		restored, saved := m.describe()
		if saved == "" {
			saved = "-"
		}
		note := "-"
		if m.Note != "" {
			note = cell(m.Note)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", cell(m.Name), cell(restored), cell(saved), note)
	}
	b.WriteString("\n")
}

// size is a number of bytes for people.
func size(bytes int64) string {
	switch {
	case bytes < 1000:
		return fmt.Sprintf("%d B", bytes)
	case bytes < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	case bytes < 1000*1000*1000:
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
}
