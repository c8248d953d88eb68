package advice

import (
	"path"
	"slices"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/shellcalls"
)

// tool is a package manager.
type tool struct {
	name     string
	commands []string
	// loads are the subcommands that load packages; "" stands for none given.
	// nil means all but those that only tell something.
	loads []string
	// valued are the options before a subcommand that take the next word.
	valued string
	// places gives what to mount for a call.
	places func(c *caller) []place
	// noCache are options, noCacheEnv variables that make the tool ignore its
	// cache; clears are subcommands that empty it.
	noCache    []string
	noCacheEnv string
	clears     []string
	locked     bool
	// needed says that later steps need the cache itself, not only what was
	// installed from it.
	needed bool
}

// place is a directory that a tool keeps packages in.
type place struct {
	dir string // "" if it cannot be told
	// strange says that a directory above may be missing, and would be root's.
	strange bool
}

// tools are those that are known. Where they keep their caches is told beside
// each; https://docs.docker.com/build/cache/optimize/#use-cache-mounts has
// most of the mounts.
var tools = []*tool{
	{
		// apt.conf(5), Dir::Cache::Archives and Dir::State::Lists. Only the lists
		// of /var/lib/apt: its extended_states belongs to the image.
		name: "apt", commands: []string{"apt", "apt-get", "aptitude"},
		loads:  []string{"install", "upgrade", "dist-upgrade", "full-upgrade", "safe-upgrade", "build-dep", "reinstall", "satisfy"},
		valued: "-o --option -t --target-release --default-release -c --config-file -a --host-architecture",
		places: func(*caller) []place { return []place{{dir: aptCache}} },
		clears: []string{"clean", "autoclean", "auto-clean", "distclean", "dist-clean"}, locked: true,
	},
	{
		// https://pip.pypa.io/en/stable/topics/caching/
		name: "pip", commands: []string{"pip", "pip3"}, loads: []string{"install", "download", "wheel"},
		valued:  "--proxy --retries --timeout --log --cert --client-cert --cache-dir --python --trusted-host --exists-action",
		places:  func(c *caller) []place { return c.cacheDir("PIP_CACHE_DIR", "--cache-dir", "pip") },
		noCache: []string{"--no-cache-dir"}, noCacheEnv: "PIP_NO_CACHE_DIR", clears: []string{"cache purge"},
	},
	{
		// https://python-poetry.org/docs/configuration/#cache-dir. Its virtual
		// environments lie in there too, which the image needs.
		name: "poetry", commands: []string{"poetry"}, loads: []string{"install", "add", "update", "sync"},
		valued: "-C --directory -P --project",
		places: func(c *caller) []place {
			var all []place
			for _, p := range c.cacheDir("POETRY_CACHE_DIR", "", "pypoetry") {
				all = append(all, p.sub("cache"), p.sub("artifacts"))
			}
			return all
		},
		noCache: []string{"--no-cache"},
	},
	{
		// https://docs.npmjs.com/cli/using-npm/config#cache
		name: "npm", commands: []string{"npm", "npx"}, loads: []string{"ci", "clean-install", "install-clean", "install", "i", "in", "ins", "add", "update", "up", "upgrade", "install-test", "it", "install-ci-test", "cit", "exec"},
		valued: "--prefix -C --cache --registry --loglevel --workspace -w --omit --include --userconfig",
		places: func(c *caller) []place {
			for _, name := range []string{"npm_config_cache", "NPM_CONFIG_CACHE"} {
				if dir, set := c.env(name); set {
					return []place{{dir: dir, strange: true}}
				}
			}
			if dir, given := c.option("--cache"); given {
				return []place{{dir: dir, strange: true}}
			}
			return []place{c.home(".npm")}
		},
		clears: []string{"cache clean", "cache clear"},
	},
	{
		// https://classic.yarnpkg.com/lang/en/docs/cli/cache/ (root's is in
		// /usr/local/share/.cache), https://yarnpkg.com/features/caching
		name: "yarn", commands: []string{"yarn", "yarnpkg"}, loads: []string{"", "install", "add", "up", "upgrade", "global add", "workspaces focus", "dlx"},
		valued: "--cwd --cache-folder --registry --network-timeout --mutex",
		places: func(c *caller) []place {
			if dir, given := c.option("--cache-folder"); given {
				return []place{{dir: dir, strange: true}}
			}
			if dir, set := c.env("YARN_CACHE_FOLDER"); set {
				return []place{{dir: dir, strange: true}}
			}
			classic := place{dir: "/usr/local/share/.cache/yarn"}
			if !c.root() {
				classic = c.home(".cache/yarn")
			}
			return []place{classic, c.home(".yarn/berry/cache")}
		},
		clears: []string{"cache clean"},
	},
	{
		// https://pnpm.io/settings#storedir, https://pnpm.io/docker
		name: "pnpm", commands: []string{"pnpm", "pnpx"}, loads: []string{"install", "i", "add", "update", "up", "fetch", "deploy", "dlx", "install-test", "it"},
		valued: "-C --dir --filter -F --store-dir --registry --reporter --loglevel",
		places: func(c *caller) []place {
			if dir, given := c.option("--store-dir"); given {
				return []place{{dir: dir, strange: true}}
			}
			for _, variable := range []struct{ name, sub string }{
				{"npm_config_store_dir", ""}, {"PNPM_HOME", "store"}, {"XDG_DATA_HOME", "pnpm/store"},
			} {
				if dir, set := c.env(variable.name); set {
					return []place{place{dir: dir, strange: true}.sub(variable.sub)}
				}
			}
			return []place{c.home(".local/share/pnpm/store")}
		},
		clears: []string{"store prune"},
	},
	{
		// https://go.dev/ref/mod#module-cache, https://pkg.go.dev/cmd/go#hdr-Build_and_test_caching
		name: "go", commands: []string{"go"}, loads: []string{"build", "install", "test", "get", "vet", "run", "mod download", "mod tidy", "mod vendor", "mod verify"},
		valued: "-C", places: goPlaces,
		clears: []string{"clean"}, needed: true,
	},
	{
		// https://doc.rust-lang.org/cargo/guide/cargo-home.html#caching-the-cargo-home-in-ci.
		// Not target/: it holds what was built.
		name: "cargo", commands: []string{"cargo"}, loads: []string{"build", "b", "test", "t", "run", "r", "check", "c", "install", "fetch", "clippy", "doc", "d", "bench", "update", "vendor", "chef cook", "rustc", "build-deps", "auditable build"},
		valued: "--color --config -C -Z",
		places: func(c *caller) []place {
			home := c.home(".cargo")
			if dir, set := c.env("CARGO_HOME"); set {
				home = place{dir: dir, strange: true}
			} else if c.image == "rust" {
				home = place{dir: "/usr/local/cargo"} // writable by all
			}
			return []place{home.sub("registry"), home.sub("git")}
		},
		needed: true,
	},
	{
		// https://maven.apache.org/settings.html (localRepository). Not ~/.m2,
		// where settings.xml is.
		name: "maven", commands: []string{"mvn", "mvnw"},
		places: func(c *caller) []place {
			for _, word := range c.call.Args {
				if dir, found := strings.CutPrefix(word.Text, "-Dmaven.repo.local="); found {
					if !word.Known {
						dir = ""
					}
					return []place{{dir: dir, strange: true}}
				}
			}
			for _, name := range []string{"MAVEN_OPTS", "MAVEN_ARGS"} {
				if value, set := c.env(name); set && (value == "" || strings.Contains(value, "maven.repo.local")) {
					return []place{{}}
				}
			}
			return []place{c.home(".m2/repository")}
		},
		needed: true,
	},
	{
		// https://docs.gradle.org/current/userguide/directory_layout.html#dir:gradle_user_home.
		// Gradle locks its caches by talking to the other process, which is in
		// another container.
		name: "gradle", commands: []string{"gradle", "gradlew"},
		places: func(c *caller) []place {
			home := c.home(".gradle")
			if dir, set := c.env("GRADLE_USER_HOME"); set {
				home = place{dir: dir, strange: true}
			}
			for _, name := range []string{"--gradle-user-home", "-g"} {
				if dir, given := c.option(name); given {
					home = place{dir: dir, strange: true}
				}
			}
			all := []place{home.sub("caches")}
			if c.call.Name == "gradlew" {
				all = append(all, home.sub("wrapper"))
			}
			return all
		},
		locked: true, needed: true,
	},
	{
		// Bundler::Source::Rubygems looks for downloaded gems in the cache of
		// every gem path; docker-library/ruby sets GEM_HOME. Elsewhere the place
		// depends on Ruby's version.
		name: "bundler", commands: []string{"bundle", "bundler"}, loads: []string{"", "install", "update"},
		places: func(c *caller) []place {
			home, set := c.env("GEM_HOME")
			if !set && c.image == "ruby" {
				home = "/usr/local/bundle"
			}
			for _, name := range []string{"BUNDLE_PATH", "BUNDLE_DEPLOYMENT"} {
				if _, set := c.env(name); set {
					home = ""
				}
			}
			for _, call := range c.step.calls { // bundle config set path ...
				if slices.ContainsFunc(call.Args, func(w shellcalls.Word) bool {
					return w.Text == "--deployment" || w.Text == "deployment" || w.Text == "path" || strings.HasPrefix(w.Text, "--path")
				}) && strings.HasPrefix(call.Name, "bundle") {
					home = ""
				}
			}
			return []place{place{dir: home}.sub("cache")}
		},
		noCache: []string{"--no-cache"},
	},
	{
		// https://getcomposer.org/doc/03-cli.md#composer-cache-dir;
		// composer/docker sets COMPOSER_HOME.
		name: "composer", commands: []string{"composer", "composer.phar"}, loads: []string{"install", "i", "update", "u", "upgrade", "require", "r", "create-project", "global require", "global install", "global update"},
		valued: "-d --working-dir",
		places: func(c *caller) []place {
			if dir, set := c.env("COMPOSER_CACHE_DIR"); set {
				return []place{{dir: dir, strange: true}}
			}
			if dir, set := c.env("COMPOSER_HOME"); set {
				return []place{place{dir: dir, strange: true}.sub("cache")}
			}
			if c.image == "composer" {
				return []place{{dir: "/tmp/cache"}}
			}
			return []place{c.home(".composer/cache")}
		},
		noCache: []string{"--no-cache"}, clears: []string{"clear-cache", "clearcache", "cc"},
	},
}

const (
	aptCache = "/var/cache/apt"
	aptLists = "/var/lib/apt/lists"
)

func goPlaces(c *caller) []place {
	modules := place{}
	dir, set := c.env("GOMODCACHE")
	gopath, hasPath := c.env("GOPATH")
	switch {
	case set:
		modules = place{dir: dir, strange: true}
	case hasPath:
		modules = place{dir: gopath, strange: true}.sub("pkg/mod")
	case c.image == "golang" && c.root():
		modules.dir = "/go/pkg/mod"
	case c.image == "golang": // where all may write in /go, but not in a pkg that is root's
		modules.dir = "/go/pkg"
	default:
		modules = c.home("go/pkg/mod")
	}
	if _, words := subcommand(c.call, "-C"); strings.HasPrefix(words, "mod ") {
		return []place{modules}
	}
	built := c.home(".cache/go-build")
	if dir, set := c.env("GOCACHE"); set {
		built = place{dir: dir, strange: true}
	} else if dir, set := c.env("XDG_CACHE_HOME"); set {
		built = place{dir: dir, strange: true}.sub("go-build")
	}
	return []place{modules, built}
}

func (p place) sub(name string) place {
	if p.dir != "" {
		p.dir = path.Join(p.dir, name)
	}
	return p
}

// toolOf gives the package manager that a call is of, nil for none.
func toolOf(c shellcalls.Call) *tool {
	name := c.Name
	if version, found := strings.CutPrefix(name, "pip3."); found && number(version) {
		name = "pip3"
	}
	for _, t := range tools {
		if slices.Contains(t.commands, name) {
			return t
		}
	}
	return nil
}

// subcommand gives the first word of a call that is no option, and the first
// two; "?" is one that is not known.
func subcommand(c shellcalls.Call, valued string) (first, two string) {
	var found []string
	options := strings.Fields(valued)
	for i := 0; i < len(c.Args) && len(found) < 2; i++ {
		word := c.Args[i]
		switch {
		case !word.Known && !strings.HasPrefix(word.Text, "-"):
			found = append(found, "?")
		case slices.Contains(options, word.Text):
			i++
		case strings.HasPrefix(word.Text, "-"), strings.HasPrefix(word.Text, "+"):
		default:
			found = append(found, word.Text)
		}
	}
	if len(found) == 0 {
		return "", ""
	}
	return found[0], strings.Join(found, " ")
}

// loading tells whether a call loads packages, and names it for people.
func (t *tool) loading(c shellcalls.Call) (command string, loads bool) {
	first, two := subcommand(c, t.valued)
	if t.loads == nil {
		for _, a := range c.Args {
			switch a.Text {
			case "--version", "-v", "-version", "--help", "-h", "-o", "--offline":
				return "", false
			}
		}
		return c.Name, first != ""
	}
	if c.Name == "npx" || c.Name == "pnpx" {
		return c.Name, first != ""
	}
	if first == "" && slices.ContainsFunc(c.Args, func(w shellcalls.Word) bool {
		return w.Text == "--version" || w.Text == "-v" || w.Text == "--help" || w.Text == "-h"
	}) {
		return "", false
	}
	for _, sub := range t.loads {
		switch sub {
		case first:
			return strings.TrimSpace(c.Name + " " + first), true
		case two:
			return c.Name + " " + two, true
		}
	}
	return "", false
}
