package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/opts"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/spf13/pflag"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/proxies"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// options are one invocation of the command: its arguments and what stands
// for them in the environment, checked as far as that goes without an engine,
// a registry or the file system.
type options struct {
	help    bool // --help: print helpText and stop; nothing else is checked
	version bool // --version: print it and stop; nothing else is checked

	image   string         // as written: [REGISTRY/]NAME[:TAG]
	tags    []string       // --tag as written: further names of the image
	push    bool           // push image and tags after a success
	load    bool           // --load; build.Outputs holds what it asks for
	discard bool           // --output type=cacheonly: no engine is to keep the image
	build   engine.Options // Dockerfile is "-" for standard input

	builder      string // of buildx, "" for none named
	progress     string // a progressui.DisplayMode: auto, plain, tty, quiet, rawjson
	quiet        bool   // print the image ID only; progress is quiet
	iidFile      string // "" for none
	metadataFile string // "" for none

	branch, defaultBranch, baseBranch string // "" to find out

	cacheRepo       string // "" for the image's own
	cacheStages     stageSelection
	cacheSave       when   // always, onSuccess or never
	cacheUnprefixed when   // always, onDefaultBranch or never
	cacheScope      string // "" for none
	cacheMounts     cache.MountSelection
	cacheMountsMax  int64 // bytes, 0 for the default
	keepGoing       bool
	checkpoint      time.Duration // between checkpoints, 0 for none
	grace           time.Duration // 0 for the CI's own
	state           string        // file for save, "" for none
	cacheTrust      cache.Trust   // own or fork, "" to find out
	proxies         proxies.Settings
	config          string // file, "" for those of the user and the machine
	volatile        []stages.VolatileArg
	autoCacheMounts bool
	advice          bool
	dryRun          bool
	report          string // file for the JSON report, "" for none
}

// reservedVerbs stand in the image's place (issue A).
var reservedVerbs = []string{"explain", proxiesVerb, "prune", saveVerb}

// parser holds what takes more than one option to decide.
type parser struct {
	options      *options
	lookupEnv    func(string) (string, bool)
	dockerfile   string
	ulimits      *opts.UlimitOpt
	attestations []attestation
	provenance   *attestation
	sbom         *attestation
}

// parseCommandLine reads the arguments after the program's name, with the
// environment as os.LookupEnv gives it: an empty variable is a value of
// --build-arg NAME. Its errors are *usageError.
func parseCommandLine(args []string, lookupEnv func(string) (string, bool)) (*options, error) {
	if len(args) > 0 && slices.Contains(reservedVerbs, args[0]) {
		return nil, reservedVerb(args[0])
	}
	p := newParser(lookupEnv)
	known := append(p.ownOptions(), p.dockerOptions()...)
	flags := flagSet(known)
	if err := flags.Parse(args); err != nil {
		return nil, parseError(err, known)
	}
	if p.options.help || p.options.version {
		return p.options, nil
	}
	if err := readVariables(known, flags, lookupEnv); err != nil {
		return nil, err
	}
	if err := p.setPositional(flags.Args()); err != nil {
		return nil, err
	}
	if err := p.finish(flags.Changed("progress")); err != nil {
		return nil, err
	}
	return p.options, nil
}

// readVariables sets the options that were not given from their variables.
func readVariables(known []option, flags *pflag.FlagSet, lookupEnv func(string) (string, bool)) error {
	for _, o := range known {
		if o.env == "" || flags.Changed(o.name) {
			continue
		}
		// An empty variable is what CI files make of one that is not set.
		if value, _ := lookupEnv(o.env); value != "" {
			set := o.set
			if o.setList != nil {
				set = o.setList
			}
			if err := set(value); err != nil {
				return valueError(o.env, formOf(known, o.name), err)
			}
		}
	}
	return nil
}

func newParser(lookupEnv func(string) (string, bool)) *parser {
	return &parser{
		options: &options{
			push:            true,
			progress:        "auto",
			cacheSave:       always,
			cacheUnprefixed: always,
			checkpoint:      2 * time.Minute,
			advice:          true,
		},
		lookupEnv: lookupEnv,
		ulimits:   opts.NewUlimitOpt(nil),
	}
}

// setPositional takes the image and PATH. Options may stand between them.
func (p *parser) setPositional(args []string) error {
	o := p.options
	for _, arg := range args {
		if arg == "true" || arg == "false" {
			return usagef("an option's truth value is written with =, as in --push="+arg+"; an image or a directory of that name is written "+arg+":latest or ./"+arg,
				"unexpected argument %q", arg)
		}
	}
	if len(args) == 0 || args[0] == "" {
		return usagef("write "+program+" [REGISTRY/]NAME[:TAG] [OPTION...] [PATH]", "the image is missing")
	}
	image, path := args[0], "."
	if slices.Contains(reservedVerbs, image) {
		return reservedVerb(image)
	}
	if looksLikePath(image) {
		return p.imageIsPath(args)
	}
	if len(args) > 2 {
		return usagef("one image and one PATH can be given; a value with spaces needs quotes",
			"too many arguments: %q after the image %q and the path %q", args[2], image, args[1])
	}
	if len(args) == 2 {
		path = args[1]
	}
	if err := checkContext(path); err != nil {
		return err
	}
	o.image, o.build.Context = image, path
	return nil
}

func reservedVerb(name string) error {
	if how, ok := map[string]string{saveVerb: "--state FILE", proxiesVerb: "up"}[name]; ok {
		return usagef(fmt.Sprintf("write %s %s %s; an image called %[2]s is written with a tag: %[2]s:latest", program, name, how),
			"the command %s comes first", name)
	}
	return usagef(fmt.Sprintf("an image called %s is written with a tag: %s:latest", name, name),
		"the command %s is not available in this version", name)
}

// looksLikePath tells a directory or a URL from the name of an image, which
// begins with a letter or a digit.
func looksLikePath(s string) bool {
	return strings.HasPrefix(s, ".") || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "~") ||
		strings.HasSuffix(s, "/") || strings.Contains(s, "://") || strings.Contains(s, `\`) || s == "-"
}

// imageIsPath explains a path in the image's place, to which docker build -t
// NAME PATH leads. URLs are not repeated, as they may hold a credential.
func (p *parser) imageIsPath(args []string) error {
	path, what := args[0], args[0]+" is a path"
	if strings.Contains(path, "://") {
		path, what = "PATH", "a URL stands in its place"
	}
	image := "NAME:TAG"
	switch {
	case len(args) == 2 && !looksLikePath(args[1]):
		image = args[1]
	case len(p.options.tags) > 0:
		image = p.options.tags[0]
	}
	return usagef(fmt.Sprintf("the image comes first, then the path: %s %s %s", program, image, path),
		"the image is missing: %s", what)
}

// checkContext refuses what is not a local directory. Whether the directory
// exists is for its reader to say.
func checkContext(path string) error {
	switch {
	case path == "":
		return usagef("leave PATH out for the current directory", "PATH is empty")
	case path == "-":
		return usagef("unpack the archive and give its directory; for a Dockerfile on standard input alone, write -f - and a directory",
			"a build context on standard input is not supported")
	case isURL(path):
		return usagef("check it out and give its directory, as in: git clone URL src && "+program+" NAME:TAG src",
			"a remote build context is not supported")
	}
	return nil
}

// isURL tells git and HTTP URLs from paths. The form github.com/a/b, which
// can be a directory too, is taken for one.
func isURL(s string) bool {
	if strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") {
		return true
	}
	ref, ok, _ := dfgitutil.ParseGitRef(s)
	return ok && (ref == nil || !ref.IndistinguishableFromLocal)
}

// finish decides what depends on several options.
func (p *parser) finish(progressGiven bool) error {
	if err := p.finishProgress(progressGiven); err != nil {
		return err
	}
	if err := p.finishDockerfile(); err != nil {
		return err
	}
	if err := p.finishOutputs(); err != nil {
		return err
	}
	p.finishVolatile()
	b := &p.options.build
	if b.NoCache && len(b.NoCacheFilter) > 0 {
		return usagef("give one of them", "--no-cache and --no-cache-filter exclude each other")
	}
	for _, shorthand := range []*attestation{p.provenance, p.sbom} {
		if shorthand != nil {
			p.attestations = append(p.attestations, *shorthand)
		}
	}
	b.Attestations = effective(p.attestations)
	for _, limit := range p.ulimits.GetList() {
		b.Ulimits = append(b.Ulimits, limit.String())
	}
	p.addSourceDate()
	return nil
}

// finishProgress joins --quiet and --progress: buildx calls quiet the mode
// that prints the image ID, and none the one that prints nothing.
func (p *parser) finishProgress(given bool) error {
	o := p.options
	switch {
	case o.progress == "quiet":
		o.quiet = true
	case o.progress == "none":
		o.progress = "quiet"
	case o.quiet && given && o.progress != "auto":
		return usagef("give one of them", "--quiet and --progress %s exclude each other", o.progress)
	case o.quiet:
		o.progress = "quiet"
	}
	return nil
}

func (p *parser) finishDockerfile() error {
	b := &p.options.build
	switch {
	case p.dockerfile == "":
		b.Dockerfile = filepath.Join(b.Context, "Dockerfile")
	case isURL(p.dockerfile):
		return usagef("download it and give its path, or - to read standard input", "a remote Dockerfile is not supported by --file")
	default:
		b.Dockerfile = p.dockerfile
	}
	return nil
}

// finishOutputs adds what --load stands for, unless an output says it, and
// checks the outputs against each other.
func (p *parser) finishOutputs() error {
	o, b := p.options, &p.options.build
	toEngine := func(out engine.Output) bool { return out.Type == "docker" && out.Destination == "" }
	if o.load && !slices.ContainsFunc(b.Outputs, toEngine) {
		b.Outputs = append(b.Outputs, engine.Output{Type: "docker", Attributes: map[string]string{}})
	}
	// To buildx it is an output that goes nowhere.
	given := len(b.Outputs)
	b.Outputs = slices.DeleteFunc(b.Outputs, func(out engine.Output) bool { return out.Type == "cacheonly" })
	o.discard = len(b.Outputs) < given
	toStdout := ""
	for _, out := range b.Outputs {
		if o.iidFile != "" && (out.Type == "local" || out.Type == "tar") {
			return usagef("leave one of them out", "--iidfile and --output type=%s exclude each other: that output is no image", out.Type)
		}
		if out.Destination == "-" {
			if toStdout != "" {
				return usagef("give one of them a dest=FILE", "--output type=%s and type=%s both go to standard output", toStdout, out.Type)
			}
			toStdout = out.Type
		}
	}
	return nil
}

// addSourceDate passes SOURCE_DATE_EPOCH on as buildx does
// (docs.docker.com/build/ci/github-actions/reproducible-builds).
func (p *parser) addSourceDate() {
	const name = "SOURCE_DATE_EPOCH"
	b := &p.options.build
	given := slices.ContainsFunc(b.BuildArgs, func(arg engine.BuildArg) bool { return arg.Name == name })
	if value, _ := p.lookupEnv(name); value != "" && !given {
		b.BuildArgs = append(b.BuildArgs, engine.BuildArg{Name: name, Value: value})
	}
}
