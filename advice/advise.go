package advice

import (
	"path"
	"slices"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/shellcalls"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// caller is a call with what it finds in its step.
type caller struct {
	step    *step
	call    shellcalls.Call
	image   string
	account account // whom it runs as
}

func (c *caller) root() bool { return c.account.name == "root" }

// env is the value of a variable, "" for one that is not known.
func (c *caller) env(name string) (value string, set bool) {
	for _, a := range slices.Backward(c.call.Env) {
		if a.Name == name && a.Value.Known {
			return a.Value.Text, true
		} else if a.Name == name {
			return "", true
		}
	}
	value, set, _ = c.step.run.Getenv(name)
	return value, set
}

// option is the value of an option of the call, "" for one that is not known.
func (c *caller) option(name string) (value string, given bool) {
	for i, a := range c.call.Args {
		if a.Text == name && a.Known && i+1 < len(c.call.Args) {
			if next := c.call.Args[i+1]; next.Known {
				return next.Text, true
			}
			return "", true
		}
		if value, found := strings.CutPrefix(a.Text, name+"="); found {
			if !a.Known {
				value = ""
			}
			return value, true
		}
	}
	return "", false
}

// home is a directory in the caller's home.
func (c *caller) home(name string) place {
	home := c.account.home
	if value, set := c.env("HOME"); set {
		home = value
	}
	return place{dir: home, strange: strings.Contains(name, "/")}.sub(name)
}

// cacheDir is where a program keeps its cache: where a variable or an option
// says, else in the user's directory of caches.
func (c *caller) cacheDir(variable, option, name string) []place {
	if option != "" {
		if dir, given := c.option(option); given {
			return []place{{dir: dir, strange: true}}
		}
	}
	if dir, set := c.env(variable); set {
		return []place{{dir: dir, strange: true}}
	}
	if dir, set := c.env("XDG_CACHE_HOME"); set {
		return []place{place{dir: dir, strange: true}.sub(name)}
	}
	return []place{c.home(".cache/" + name)}
}

// accountOf finds out whom a call runs as.
func (d *dockerfile) accountOf(s *step, c shellcalls.Call) account {
	user := c.User
	if user == "" {
		user = s.run.User
	}
	name, gid, _ := strings.Cut(user, ":")
	switch {
	case name == stages.UnknownUser:
		return account{}
	case name == "" || name == "root" || name == "0":
		return account{name: "root", home: "/root"}
	}
	found := account{name: name}
	for _, a := range d.users[s.stage] {
		if a.name == name || a.uid != "" && a.uid == name {
			found = a
		}
	}
	if found.home == "" && d.image[s.stage] == "node" && (name == "node" || name == "1000") { // docker-node creates it
		found = account{name: name, home: "/home/node", uid: "1000", gid: "1000"}
	}
	if number(name) {
		found.uid = name
	}
	if number(gid) {
		found.gid = gid
	}
	return found
}

// advise gives the advice for one step: a finding for each tool, in the order
// in which it calls them.
func (d *dockerfile) advise(s *step) []Finding {
	var found []Finding
	for _, call := range s.calls {
		t := toolOf(call)
		if t == nil {
			continue
		}
		command, loads := t.loading(call)
		if !loads {
			continue
		}
		account := d.accountOf(s, call)
		if account.name == "" {
			continue
		}
		c := &caller{step: s, call: call, image: d.image[s.stage], account: account}
		at := slices.IndexFunc(found, func(f Finding) bool { return f.Tool == t.name })
		if at < 0 {
			at = len(found)
			found = append(found, Finding{Stage: s.stage, Line: s.line, Tool: t.name, Command: command})
		}
		d.complete(&found[at], t, c)
	}
	found = slices.DeleteFunc(found, func(f Finding) bool { return len(f.Mounts) == 0 && len(f.Remove) == 0 })
	if before := d.dockerClean(s); before != "" {
		found = append(found, Finding{Stage: s.stage, Line: s.line, Tool: "docker-clean", Command: "apt", Before: before})
	}
	return found
}

// complete adds to a finding what one call needs.
func (d *dockerfile) complete(f *Finding, t *tool, c *caller) {
	places := t.places(c)
	if t.name == "apt" && d.listsMayGo(c.step) {
		places = append(places, place{dir: aptLists})
	}
	ignored := c.ignoresCache(t)
	for _, p := range places {
		if !path.IsAbs(p.dir) || path.Clean(p.dir) == "/" || strings.ContainsAny(p.dir, "$\"\n\\`~") ||
			d.taken(c.step, p.dir) || t.needed && (d.started(c.step, t) || d.opaqueAfter(c.step)) {
			continue
		}
		m := Mount{Target: path.Clean(p.dir), Locked: t.locked}
		if !c.root() && t.name != "apt" { // which only works as root
			m.UID, m.GID, m.Open = c.account.uid, c.account.gid, c.account.uid == ""
			if m.Open {
				m.GID = ""
			}
			m.strange = p.strange
		}
		removed := append(slices.Clone(ignored), d.emptied(c.step, t, m.Target)...)
		m.obstructed = len(removed) > 0 || t.name != "apt" && c.step.removesUnknown()
		covered := slices.ContainsFunc(c.step.run.Mounts, func(at string) bool { return overlap(at, m.Target) })
		if covered && len(removed) == 0 {
			continue
		}
		if !covered && !slices.ContainsFunc(f.Mounts, func(other Mount) bool { return overlap(other.Target, m.Target) }) {
			f.Mounts = append(f.Mounts, m)
		}
		for _, text := range removed {
			if !slices.Contains(f.Remove, text) {
				f.Remove = append(f.Remove, text)
			}
		}
	}
}

// ignoresCache tells what keeps the call from using its cache.
func (c *caller) ignoresCache(t *tool) []string {
	var found []string
	for _, a := range c.call.Args {
		if a.Known && slices.Contains(t.noCache, a.Text) {
			found = append(found, a.Text)
		}
	}
	if t.noCacheEnv == "" {
		return found
	}
	if value, set := c.env(t.noCacheEnv); set {
		switch strings.ToLower(value) {
		case "0", "false", "no", "off", "":
		default:
			found = append(found, t.noCacheEnv)
		}
	}
	return found
}

// emptied gives the commands of a step that empty what lies at target, as
// people would name them.
func (d *dockerfile) emptied(s *step, t *tool, target string) []string {
	var found []string
	for _, call := range s.calls {
		if slices.Contains(t.commands, call.Name) && target != aptLists {
			first, two := subcommand(call, t.valued)
			for _, sub := range t.clears {
				if sub != first && sub != two || t.name == "go" && !slices.ContainsFunc(call.Args, func(w shellcalls.Word) bool {
					return strings.HasSuffix(w.Text, "cache")
				}) {
					continue
				}
				found = append(found, call.Name+" "+sub)
			}
		}
		if call.Name != "rm" {
			continue
		}
		home := d.accountOf(s, call).home
		for _, a := range call.Args {
			name := a.Text
			if rest, found := strings.CutPrefix(name, "~/"); found && home != "" {
				name = home + "/" + rest
			}
			if !a.Known || !path.IsAbs(name) {
				continue
			}
			if dir := cleanPath(name); overlap(dir, target) && !dockerCleanFile(name) {
				found = append(found, "rm of "+a.Text)
			}
		}
	}
	return found
}

// removesUnknown tells whether the step removes what cannot be told, such as
// $HOME/.cache, which would fail on a mount in there.
func (s *step) removesUnknown() bool {
	return slices.ContainsFunc(s.calls, func(c shellcalls.Call) bool {
		return c.Name == "rm" && slices.ContainsFunc(c.Args, func(a shellcalls.Word) bool { return !a.Known && a.Text == "" })
	})
}

// opaqueAfter tells whether a step that starts from what s leaves may need the
// packages themselves, without a mount of its own.
func (d *dockerfile) opaqueAfter(s *step) bool {
	return slices.ContainsFunc(d.after(s), func(later *step) bool { return later.opaque })
}

// listsMayGo tells whether apt's lists may be in a mount: only if the step
// gets and uses them itself, and leaves none for others.
func (d *dockerfile) listsMayGo(s *step) bool {
	updates := func(s *step) bool {
		for _, call := range s.calls {
			if first, _ := subcommand(call, toolNamed("apt").valued); toolOf(call) == toolNamed("apt") && first == "update" {
				return true
			}
		}
		return false
	}
	if !updates(s) {
		return false
	}
	if len(d.emptied(s, toolNamed("apt"), aptLists)) > 0 {
		return true
	}
	return !slices.ContainsFunc(d.after(s), func(later *step) bool {
		uses := slices.ContainsFunc(later.calls, func(c shellcalls.Call) bool { return toolOf(c) == toolNamed("apt") || c.Name == "apt-cache" })
		return later.opaque || uses && !updates(later)
	})
}

func toolNamed(name string) *tool {
	for _, t := range tools {
		if t.name == name {
			return t
		}
	}
	return nil
}

// dockerClean gives the instruction that lets apt keep what it loads, where
// nothing has done so yet: once, at the first step that loads.
func (d *dockerfile) dockerClean(s *step) string {
	loads, byApt := s.loadsByApt()
	if !loads || d.taken(s, aptCache) {
		return ""
	}
	for _, before := range d.until(s) {
		said, _ := before.loadsByApt()
		if before.removesDockerClean() || said && before != s {
			return ""
		}
	}
	if byApt { // apt.conf(5): apt-get keeps by default, apt does not
		return `RUN rm -f ` + dockerClean + ` && echo 'Binary::apt::APT::Keep-Downloaded-Packages "true";' > /etc/apt/apt.conf.d/keep-cache`
	}
	return `RUN rm -f ` + dockerClean
}

// until gives the steps of which s starts from what they leave, and s.
func (d *dockerfile) until(s *step) []*step {
	var steps []*step
	for stage := s.stage; stage >= 0; stage = d.file.Stages[stage].From {
		for _, other := range d.steps[stage] {
			if stage != s.stage || other.index <= s.index {
				steps = append(steps, other)
			}
		}
	}
	return steps
}

// loadsByApt tells whether a step loads packages by apt-get or apt, and by
// which.
func (s *step) loadsByApt() (loads, byApt bool) {
	apt := toolNamed("apt")
	for _, call := range s.calls {
		if toolOf(call) != apt {
			continue
		}
		if _, l := apt.loading(call); l {
			loads, byApt = true, byApt || call.Name == "apt"
		}
	}
	return loads, byApt
}

func (s *step) removesDockerClean() bool {
	return slices.ContainsFunc(s.calls, func(c shellcalls.Call) bool {
		return c.Name == "rm" && slices.ContainsFunc(c.Args, func(a shellcalls.Word) bool { return dockerCleanFile(a.Text) })
	})
}

// dockerClean is written by Debian's and Ubuntu's images (debuerreotype,
// scripts/debuerreotype-minimizing-config).
const dockerClean = "/etc/apt/apt.conf.d/docker-clean"

func dockerCleanFile(name string) bool {
	return name == dockerClean || strings.HasPrefix(name, "/etc/apt/apt.conf.d/") && strings.ContainsAny(name, "*?[")
}
