package proxies

import (
	"slices"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/shellcalls"
)

// Tool is what a proxy is for, as --proxy names it.
type Tool string

// The tools. Docker is the engine itself, which pulls base images: no step of
// a Dockerfile has to do with it.
const (
	Apt    Tool = "apt"
	Pip    Tool = "pip"
	Npm    Tool = "npm"
	Gem    Tool = "gem"
	Go     Tool = "go"
	Maven  Tool = "maven"
	Cargo  Tool = "cargo"
	Docker Tool = "docker"
)

// Tools are all tools, in the order in which they are told.
func Tools() []Tool { return []Tool{Apt, Pip, Npm, Gem, Go, Maven, Cargo, Docker} }

// manager is a package manager that steps call.
type manager struct {
	tool Tool
	// file is where the mount stands. The directory exists in the images that
	// most Dockerfiles begin with, and the file is the last that the package
	// manager reads, where it has such a file.
	file string
	// scratch is a directory in memory for what the package manager keeps of its
	// downloads, which names the proxy; "" where it keeps nothing that does.
	// Below /dev nothing is left of a mount point, on any engine.
	scratch string
	// uses tells whether a call may load packages, by its name and arguments.
	uses func(shellcalls.Call) bool
	// contents is the file for a proxy.
	contents func(Address) string
}

const (
	pipScratch = "/dev/docker-build-remote-cache/pip"
	npmScratch = "/dev/docker-build-remote-cache/npm"
	gemScratch = "/dev/docker-build-remote-cache/gem"
)

// managers in the order of their mounts. A place or an order that is changed
// makes everybody's steps run again, once.
var managers = []manager{
	// Read in the order of their names; a 00proxy or 01proxy comes later and
	// wins (apt.conf(5)).
	{Apt, "/etc/apt/apt.conf.d/00docker-build-remote-cache", "", named("apt", "apt-get", "aptitude"), aptConf},
	// The configuration that all others override, and every variable too
	// (pip.pypa.io/en/stable/topics/configuration).
	{Pip, "/etc/xdg/pip/pip.conf", pipScratch, isPip, pipConf},
	// npm's built-in configuration in the official images, which a project's,
	// a user's and a global .npmrc override (docs.npmjs.com/cli/configuring-npm/npmrc).
	{Npm, "/usr/local/lib/node_modules/npm/npmrc", npmScratch, isNpm, npmrc},
	// RubyGems loads it before anything else, from Ruby's site directory in
	// the official images (rubygems.rb, "operating_system").
	{Gem, "/usr/local/lib/ruby/site_ruby/rubygems/defaults/operating_system.rb", gemScratch, named("gem", "bundle", "bundler"), gemDefaults},
	// Defaults of the toolchain in the official images, which go env -w and
	// variables override (go.dev/doc/toolchain, GOROOT/go.env).
	{Go, "/usr/local/go/go.env", "", isGo, goEnv},
	// Global settings in the official images, into which ~/.m2/settings.xml is
	// merged (maven.apache.org/settings.html).
	{Maven, "/usr/share/maven/conf/settings.xml", "", named("mvn"), mavenSettings},
	// Configuration above every directory; those further down override it
	// (doc.rust-lang.org/cargo/reference/config.html). Cargo names the directory
	// of its downloads after the host: the one trace that is not avoided.
	{Cargo, "/.cargo/config.toml", "", named("cargo"), cargoConfig},
}

func managerOf(tool Tool) (manager, bool) {
	i := slices.IndexFunc(managers, func(m manager) bool { return m.tool == tool })
	if i < 0 {
		return manager{}, false
	}
	return managers[i], true
}

func named(names ...string) func(shellcalls.Call) bool {
	return func(c shellcalls.Call) bool { return slices.Contains(names, c.Name) }
}

// isPip knows pip, pip3 and pip3.12, which are also python3 -m pip, and pipx.
func isPip(c shellcalls.Call) bool {
	version, ok := strings.CutPrefix(c.Name, "pip")
	return ok && (version == "x" || strings.Trim(version, "0123456789.") == "")
}

// isNpm leaves out what publishes, which no proxy is for, and what replaces
// npm: it moves the directory in which the mount stands.
func isNpm(c shellcalls.Call) bool {
	if c.Name != "npm" {
		return c.Name == "npx"
	}
	return !hasWord(c, func(word string) bool {
		return word == "publish" || word == "npm" || strings.HasPrefix(word, "npm@")
	})
}

// isGo leaves out what prints the settings: people keep what it prints.
func isGo(c shellcalls.Call) bool {
	return c.Name == "go" && (len(c.Args) == 0 || c.Args[0].Text != "env" && c.Args[0].Text != "version")
}

func hasWord(c shellcalls.Call, is func(string) bool) bool {
	return slices.ContainsFunc(c.Args, func(w shellcalls.Word) bool { return is(w.Text) })
}
