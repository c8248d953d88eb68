package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
)

// saveVerb stands in the image's place.
const saveVerb = "save"

// saveTimeout is the default of save --timeout: GitHub ends a cancelled job
// after five minutes.
const saveTimeout = 4 * time.Minute

type saveOptions struct {
	state   string
	timeout time.Duration
	help    bool
}

func (o *saveOptions) table() []option {
	return []option{
		own(option{name: "state", value: "FILE", set: text(&o.state), help: "The file that the build was given with --state"}),
		own(option{name: "timeout", value: "DURATION", form: "a duration such as 4m", set: duration(&o.timeout),
			help: "Time to save in (default 4m)"}),
		{name: "help", short: "h", set: toggle(&o.help), help: "Print this text and stop"},
	}
}

const saveIntro = `Save what an interrupted build completed and left on the engine.

Usage:
  docker-build-remote-cache save --state FILE [--timeout DURATION]

To be called from a step of the same job that always runs. Where nothing is left to do it does nothing.
The exit status is 0 unless the command line is wrong: losing the cache fails no job.

Options:
`

// parseSave reads the arguments after the verb.
func parseSave(args []string, lookupEnv func(string) (string, bool)) (*saveOptions, error) {
	o := &saveOptions{timeout: saveTimeout}
	known := o.table()
	flags := flagSet(known)
	if err := flags.Parse(args); err != nil {
		return nil, parseError(err, known)
	}
	if err := readVariables(known, flags, lookupEnv); err != nil || o.help {
		return o, err
	}
	if len(flags.Args()) > 0 {
		return nil, usagef("an image called save is written with a tag: save:latest", "unexpected argument %q", flags.Arg(0))
	}
	if o.state == "" {
		return nil, usagef("give the file that the build was given with --state", "--state is missing")
	}
	return o, nil
}

// save is the verb.
func save(ctx context.Context, s surroundings) int {
	o, err := parseSave(s.args[1:], s.lookupEnv)
	if err != nil {
		return s.fail(err)
	}
	if o.help {
		fmt.Fprint(s.stdout, saveIntro+flagSet(o.table()).FlagUsagesWrapped(helpWidth))
		return exitOK
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done within %v (--timeout)", o.timeout))
	defer cancel()
	if err := s.finish(ctx, o.state); err != nil {
		message, hint, _ := explain(err)
		s.talk("warning: nothing was saved: %s", message)
		if hint != "" {
			s.talk("hint: %s", hint)
		}
	}
	return exitOK
}

// finish does what the build of a state file left undone.
func (s surroundings) finish(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	st, err := readState(path)
	switch {
	case err != nil:
		return err
	case st == nil:
		s.talk("nothing to save: there is no %s", path)
		return nil
	case st.Saved:
		s.talk("nothing to save: the build left nothing undone")
		return nil
	case st.Build == nil:
		s.talk("nothing to save: the build had not begun")
		return nil
	}
	s = s.replayEnvironment(st.Environment)
	// What the command line names is relative to where the build was started.
	if err := os.Chdir(st.Directory); err != nil {
		return err
	}
	o, err := parseCommandLine(st.Arguments, s.lookupEnv)
	if err != nil {
		return err
	}
	o.state = path
	p, err := prepareAgain(o, st)
	if err != nil {
		return err
	}
	return s.resume(ctx, o, p, st)
}

// prepareAgain is prepare with what was found out then.
func prepareAgain(o *options, st *state) (p *prepared, err error) {
	p = &prepared{facts: st.Facts}
	if p.file, err = parseDockerfile(o, st.Dockerfile); err != nil {
		return nil, err
	}
	if p.target, p.stages, err = chooseStages(p.file, o); err != nil {
		return nil, err
	}
	return p, p.makePlan(o)
}

func (s surroundings) resume(ctx context.Context, o *options, p *prepared, st *state) error {
	selection := s.engineSelection(o)
	addConfiguredProxies(o, selection)
	e, err := engine.Connect(ctx, selection)
	if err != nil {
		return err
	}
	defer e.Close()
	// The file is edited as it was for the build, or its steps are not found.
	if err := p.editFile(ctx, s, e, o); err != nil {
		return err
	}
	askForProxies(o, p, e)
	p.plan.CacheInImages = !e.RegistryCache
	client := registry.NewClient(s.registryOptions())
	helper := mountHelper(ctx, e, p)
	found := cache.Look(ctx, client, p.plan)
	mounts := newMountKeeper(o, p, client, found, helper)
	ask := request(s, o, p, cache.View{})
	ask.Mounts = mounts.request(cache.View{})
	b, err := e.Resume(ask, *st.Build)
	if err != nil {
		return err
	}
	defer b.Close()
	k := &keeper{
		options: o, prepared: p, engine: e, imported: true, state: st, warn: s.talk, rest: func() {}, mounts: mounts,
		saver: cache.NewSaver(client, b, p.plan, found, version()),
	}
	saved := k.save(ctx, b, b.Wait(), engine.Delivered{})
	b.Close()
	for _, warning := range k.saver.Warnings() {
		s.talk("warning: %s", warning)
	}
	for _, one := range saved {
		if one.Err != nil {
			s.talk("warning: %s is not saved to %s: %v", one.Stage, one.Ref, one.Err)
			continue
		}
		s.talk("%s is saved to %s", one.Stage, one.Ref)
	}
	if !s.tellMountsSaved(mounts) && len(saved) == 0 {
		s.talk("nothing to save: the build had completed nothing new")
	}
	return nil
}
