package advice

import (
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/shellcalls"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// dockerfile is a file with the calls of its steps.
type dockerfile struct {
	file    *stages.File
	steps   [][]*step // by stage
	derived [][]int   // stages based on a stage, directly or not, itself first
	image   []string  // the last part of the name of the image that a stage comes from
	users   [][]account
}

// step is a RUN.
type step struct {
	stage, index int
	line         int
	run          *stages.Run
	calls        []shellcalls.Call
	opaque       bool // some of what it calls is not known
}

// account is a user that a step creates.
type account struct{ name, home, uid, gid string }

// Larger files get no advice: for every step, what later ones need is looked
// up.
const (
	maxStages = 500
	maxSteps  = 1000
)

func newDockerfile(f *stages.File) *dockerfile {
	n := len(f.Stages)
	d := &dockerfile{file: f, steps: make([][]*step, n), derived: make([][]int, n), image: make([]string, n), users: make([][]account, n)}
	if n > maxStages || stepsOf(f) > maxSteps {
		return d
	}
	for i, s := range f.Stages {
		d.derived[i] = append(d.derived[i], i)
		if s.From >= 0 {
			d.image[i] = d.image[s.From]
			d.users[i] = slices.Clone(d.users[s.From])
			for base := s.From; base >= 0; base = f.Stages[base].From {
				d.derived[base] = append(d.derived[base], i)
			}
		} else {
			d.image[i] = imageName(s.Base)
		}
		if s.Replaced {
			continue
		}
		for j, in := range s.Instructions {
			if in.Run == nil {
				continue
			}
			one := &step{stage: i, index: j, line: in.Lines.First, run: in.Run}
			one.calls, one.opaque = calls(in.Run)
			d.steps[i] = append(d.steps[i], one)
			d.users[i] = append(d.users[i], created(one.calls)...)
		}
	}
	return d
}

func stepsOf(f *stages.File) (n int) {
	for _, s := range f.Stages {
		n += len(s.Instructions)
	}
	return n
}

func calls(run *stages.Run) (calls []shellcalls.Call, opaque bool) {
	var err error
	if run.Exec != nil {
		calls, err = shellcalls.Exec(run.Exec)
	} else {
		calls, err = shellcalls.Script(run.Script, run.Shell)
	}
	opaque = err != nil || len(calls) == 0
	for _, c := range calls {
		opaque = opaque || !transparent[c.Name] && toolOf(c) == nil
	}
	return calls, opaque
}

// transparent are commands that do not run what a Dockerfile cannot show.
var transparent = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range strings.Fields(`
		[ [[ addgroup adduser apk apt apt-cache apt-config apt-get apt-key apt-mark aptitude arch awk
		base64 basename bundle bundler bzip2 cargo cat cd chgrp chmod chown composer corepack cp curl cut date
		dirname dpkg dpkg-query dpkg-reconfigure echo egrep env exit export false fc-cache fgrep find
		gem getent git go gpg gradle grep groupadd gunzip gzip head hash id install ldconfig ln locale-gen
		localedef ls md5sum mkdir mktemp mv mvn npm npx pip pip3 pnpm poetry printf pwd readlink realpath rm
		rmdir rustc rustup sed set sha256sum sha512sum shopt sleep sort stat strip tail tar tee test touch tr
		true truncate ulimit umask uname uniq unlink unset unxz unzip update-alternatives
		update-ca-certificates useradd usermod wc wget which whoami xz yarn yes zip`) {
		names[name] = true
	}
	return names
}()

// created are the accounts that calls of useradd and adduser make with a home.
func created(calls []shellcalls.Call) []account {
	var found []account
	for _, c := range calls {
		if c.Name != "useradd" && c.Name != "adduser" {
			continue
		}
		var a account
		// Debian's adduser makes a home, as does Alpine's, unless told not to;
		// useradd makes one with -m.
		system, makes := false, c.Name == "adduser"
		for i := 0; i < len(c.Args); i++ {
			if !c.Args[i].Known {
				a.name = ""
				break
			}
			flag, value, joined := strings.Cut(c.Args[i].Text, "=")
			takesNext := func() string {
				if joined {
					return value
				}
				if i++; i < len(c.Args) && c.Args[i].Known {
					return c.Args[i].Text
				}
				return ""
			}
			switch flag {
			case "-u", "--uid":
				a.uid = takesNext()
			case "-d", "--home-dir", "--home", "-h":
				a.home = takesNext()
			case "-g", "--gid":
				a.gid = takesNext()
			case "-r", "--system", "-S":
				system = true
			case "-m", "--create-home":
				makes = true
			case "-M", "--no-create-home", "-H":
				makes = false
			case "-s", "--shell", "-G", "--groups", "--ingroup", "-c", "--comment", "--gecos", "-k", "--skel", "-K", "--key", "-p", "--password", "-b", "--base-dir":
				takesNext()
			default:
				if !strings.HasPrefix(flag, "-") {
					a.name = flag
				} else if short := flag[1:]; !strings.HasPrefix(short, "-") && c.Name == "useradd" { // -ms
					makes = makes || strings.Contains(short, "m")
					system = system || strings.Contains(short, "r")
					switch last := short[len(short)-1:]; last {
					case "u":
						a.uid = takesNext()
					case "d":
						a.home = takesNext()
					case "g":
						a.gid = takesNext()
					case "s", "G", "c":
						takesNext()
					}
				}
			}
		}
		if a.home == "" && makes && (!system || c.Name == "useradd") {
			a.home = "/home/" + a.name
		}
		if !number(a.uid) {
			a.uid = ""
		}
		if !number(a.gid) {
			a.gid = ""
		}
		if a.name != "" {
			found = append(found, a)
		}
	}
	return found
}

// imageName is the last part of an image's name, such as golang.
func imageName(base string) string {
	named, err := reference.ParseNormalizedNamed(base)
	if err != nil {
		return ""
	}
	return path.Base(reference.Path(named))
}

// after gives the steps that start from what s leaves: those after it in its
// stage, and those of the stages based on it.
func (d *dockerfile) after(s *step) []*step {
	var later []*step
	for _, stage := range d.derived[s.stage] {
		for _, other := range d.steps[stage] {
			if stage != s.stage || other.index > s.index {
				later = append(later, other)
			}
		}
	}
	return later
}

// taken tells whether another stage copies what lies at target, or part of it.
func (d *dockerfile) taken(s *step, target string) bool {
	for _, stage := range d.derived[s.stage] {
		for _, source := range d.file.Stages[stage].Taken {
			if strings.Contains(source, "$") || overlap(cleanPath(source), target) {
				return true
			}
		}
	}
	return false
}

// started tells whether a container starts with a tool, of this stage or one
// based on it: then it may need what the mount holds.
func (d *dockerfile) started(s *step, t *tool) bool {
	for _, stage := range d.derived[s.stage] {
		for _, in := range d.file.Stages[stage].Instructions {
			if in.Starts == nil {
				continue
			}
			calls, _ := calls(in.Starts)
			for _, c := range calls {
				if slices.Contains(t.commands, c.Name) {
					return true
				}
			}
		}
	}
	return false
}

// cleanPath is a path as its directory, without a pattern at its end.
func cleanPath(name string) string {
	if i := strings.IndexAny(name, "*?[{"); i >= 0 {
		name = name[:i]
		name = name[:strings.LastIndexByte(name, '/')+1]
	}
	return path.Join("/", name)
}

// overlap tells whether one of two paths lies in the other.
func overlap(a, b string) bool { return within(a, b) || within(b, a) }

func within(name, dir string) bool {
	return name == dir || dir == "/" || strings.HasPrefix(name, dir+"/")
}

func number(s string) bool { return s != "" && len(s) < 10 && strings.Trim(s, "0123456789") == "" }
