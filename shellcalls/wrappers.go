package shellcalls

import (
	"slices"
	"strings"
)

// wrapper is a command that runs another one, which its arguments name.
type wrapper struct {
	// valued are the options that take the next word as their value.
	valued string
	// operands come between the options and the command.
	operands int
	// users says that the command runs as another user: named by the first
	// operand, else by -u, else root.
	users bool
}

// wrappers by name. Options are told from their manual pages.
var wrappers = map[string]wrapper{
	"builtin":   {},
	"command":   {},
	"eatmydata": {},
	"env":       {valued: "-u --unset -C --chdir"},
	"exec":      {valued: "-a"},
	"flock":     {valued: "-w --wait --timeout -E --conflict-exit-code", operands: 1},
	"gosu":      {operands: 1, users: true},
	"ionice":    {valued: "-c --class -n --classdata"},
	"nice":      {valued: "-n --adjustment"},
	"nohup":     {},
	"setarch":   {operands: 1},
	"stdbuf":    {valued: "-i --input -o --output -e --error"},
	"su-exec":   {operands: 1, users: true},
	"sudo":      {valued: "-u --user -g --group -C --close-from -D --chdir -h --host -p --prompt -R --chroot -r --role -T --command-timeout -t --type -U --other-user", users: true},
	"time":      {valued: "-f --format -o --output"},
	"timeout":   {valued: "-k --kill-after -s --signal", operands: 1},
	"tini":      {valued: "-e -p"},
	"xargs":     {valued: "-a --arg-file -d --delimiter -E -I --replace -L --max-lines -n --max-args -P --max-procs -s --max-chars"},
}

// packageManagers are those that corepack runs; its other words are its own.
var packageManagers = []string{"npm", "pnpm", "yarn"}

// unwrap takes away the wrappers before a command.
func unwrap(c command) command {
	for len(c.words) > 0 && c.words[0].Known {
		name := commandName(c.words[0].Text)
		if name == "busybox" && len(c.words) > 1 {
			c.words = c.words[1:]
			continue
		}
		if name == "corepack" && len(c.words) > 1 && slices.Contains(packageManagers, c.words[1].Text) {
			c.words = c.words[1:]
			continue
		}
		if name == "su" || name == "runuser" {
			return switchUser(c)
		}
		w, ok := wrappers[name]
		if !ok {
			return c
		}
		inner, ok := w.unwrap(name, c)
		if !ok {
			return c // such as exec without a command, or command -v
		}
		c = inner
	}
	return c
}

func (w wrapper) unwrap(name string, c command) (command, bool) {
	if w.users {
		c.user = "root"
	}
	valued := strings.Fields(w.valued)
	operands, rest := w.operands, c.words[1:]
	for len(rest) > 0 {
		word := rest[0]
		switch {
		case word.Text == "--" && word.Known:
		case word.Known && len(word.Text) > 1 && strings.HasPrefix(word.Text, "-"):
			if name == "command" && strings.ContainsAny(word.Text, "vV") {
				return c, false
			}
			if slices.Contains(valued, word.Text) && len(rest) > 1 {
				if w.users && (word.Text == "-u" || word.Text == "--user") {
					c.user = userName(rest[1])
				}
				rest = rest[1:]
			} else if user, ok := strings.CutPrefix(word.Text, "--user="); ok && w.users {
				c.user = userName(Word{user, true})
			}
		case assigns(word) && (name == "env" || name == "sudo"):
			key, value, _ := strings.Cut(word.Text, "=")
			c.env = append(c.env[:len(c.env):len(c.env)], Assignment{key, Word{value, word.Known}})
		case operands > 0:
			if w.users {
				user, _, _ := strings.Cut(word.Text, ":")
				c.user = userName(Word{user, word.Known})
			}
			operands--
		case !word.Known:
			return c, false
		default:
			c.words = rest
			return c, true
		}
		rest = rest[1:]
	}
	return c, false
}

func assigns(word Word) bool {
	name, _, found := strings.Cut(word.Text, "=")
	return found && name != "" && !strings.ContainsAny(name, "-/ ")
}

func userName(word Word) string {
	if !word.Known || word.Text == "" {
		return UnknownUser
	}
	return word.Text
}

// switchUser turns su [options] [-] [user] -c 'text' into a call of a shell.
func switchUser(c command) command {
	user, script := "root", -1
	for i := 1; i < len(c.words); i++ {
		word := c.words[i]
		switch {
		case word.Text == "-c" || word.Text == "--command":
			script = i + 1
			i++
		case word.Text == "-s" || word.Text == "--shell":
			i++
		case word.Text == "-u" && i+1 < len(c.words): // runuser -u user command
			c.user, c.words = userName(c.words[i+1]), c.words[i+2:]
			if len(c.words) > 0 && c.words[0].Text == "--" {
				c.words = c.words[1:]
			}
			return c
		case strings.HasPrefix(word.Text, "-"):
		default:
			user = userName(word)
		}
	}
	if script < 0 || script >= len(c.words) {
		return c
	}
	c.user = user
	c.words = []Word{{"sh", true}, {"-c", true}, c.words[script]}
	return c
}
