package advice

import (
	"slices"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// Auto is advice that is followed without an edit of the Dockerfile.
type Auto struct {
	// Edits add the mounts to the RUN instructions.
	Edits []stages.Edit
	// Secrets are small files for some of the steps; nothing in them is secret.
	Secrets []Secret
	// Left is the advice that only people can follow.
	Left []Finding
}

// Secret is a file that a step sees at the target of a mount with this id.
type Secret struct {
	ID    string
	Value []byte
}

// apt is pointed to another directory than the one that Debian's docker-clean
// empties, in a file that no layer keeps: a hook of apt cannot be taken back
// by configuration without taking back those of others too.
const (
	aptKept     = aptCache + "/remote-cache"
	aptSettings = `Dir::Cache::Archives "` + aptKept + `";
Binary::apt::APT::Keep-Downloaded-Packages "true";
`
	aptSecret = stages.ReservedPrefix + "apt"
	// After docker-clean in the order of names, with no character that makes
	// apt ignore the file (apt.conf(5)).
	aptSecretMount = "type=secret,id=" + aptSecret + ",target=/etc/apt/apt.conf.d/zz-remote-cache"
)

// Automatic gives the edits that follow the advice for some stages of a file.
// They depend on the file alone. A mount is only added where it cannot do
// harm: not where the step would empty it, or for a user who may lack access
// to directories that are made for it.
func Automatic(f *stages.File, among []int) Auto {
	var a Auto
	d := newDockerfile(f)
	for _, stage := range slices.Sorted(slices.Values(among)) {
		for _, s := range d.steps[stage] {
			a.follow(d, s)
		}
	}
	return a
}

// follow adds the edit for one step.
func (a *Auto) follow(d *dockerfile, s *step) {
	edit := stages.Edit{Line: s.line}
	kept := d.redirectsApt(s)
	if kept {
		edit.Mounts = append(edit.Mounts, aptSecretMount)
		a.Secrets = []Secret{{aptSecret, []byte(aptSettings)}}
	}
	for _, found := range d.advise(s) {
		left := found
		left.Mounts = nil
		for _, m := range found.Mounts {
			switch {
			case m.obstructed || m.strange:
				left.Mounts = append(left.Mounts, m)
				continue
			case m.Target == aptCache:
				m.Target = aptKept
			}
			edit.Mounts = append(edit.Mounts, m.automatic())
		}
		if len(left.Mounts) > 0 || len(left.Remove) > 0 || left.Before != "" && !kept {
			a.Left = append(a.Left, left)
		}
	}
	if len(edit.Mounts) > 0 {
		a.Edits = append(a.Edits, edit)
	}
}

// redirectsApt tells whether a step's apt is to keep its packages in another
// directory: in a mount that is added, or in the Dockerfile's own that
// docker-clean empties.
func (d *dockerfile) redirectsApt(s *step) bool {
	loads, _ := s.loadsByApt()
	if !loads || d.taken(s, aptCache) || len(d.emptied(s, toolNamed("apt"), aptCache)) > 0 {
		return false
	}
	own := slices.ContainsFunc(s.run.Mounts, func(at string) bool { return overlap(at, aptCache) })
	if !own {
		return true
	}
	removed := slices.ContainsFunc(d.until(s), (*step).removesDockerClean)
	return !removed && slices.Contains(s.run.Mounts, aptCache)
}

// automatic is the mount as it is added to a file: with an id, by which it is
// told from those that people wrote.
func (m Mount) automatic() string {
	return "type=cache,id=" + stages.ReservedPrefix + "cache" + m.Target + "," + m.options()
}
