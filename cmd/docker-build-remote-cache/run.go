package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cache"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/engine"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/registry"
)

// surroundings are what a process finds when it starts.
type surroundings struct {
	args      []string
	lookupEnv func(string) (string, bool)
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
	platform  *platform
}

func (s surroundings) getenv(name string) string {
	value, _ := s.lookupEnv(name)
	return value
}

// talk says something to people, one line at a time, apart from the build's
// own output.
func (s surroundings) talk(format string, args ...any) {
	fmt.Fprintf(s.stderr, "remote-cache: %s\n", clean(fmt.Sprintf(format, args...)))
}

// run is the whole program; it returns the exit status.
func run(ctx context.Context, s surroundings) int {
	if len(s.args) > 0 && s.args[0] == mountVerb {
		return serveMount(ctx, s)
	}
	s = s.onPlatform()
	if len(s.args) > 0 && s.args[0] == saveVerb {
		return save(ctx, s)
	}
	if len(s.args) > 0 && s.args[0] == proxiesVerb {
		return runProxies(ctx, s)
	}
	recorded, environment := s.recordEnvironment()
	o, err := parseCommandLine(s.args, recorded.lookupEnv)
	if err != nil {
		return s.fail(err)
	}
	given := o.volatile
	switch {
	case o.help:
		fmt.Fprint(s.stdout, helpText())
		return exitOK
	case o.version:
		fmt.Fprintln(s.stdout, program, version())
		return exitOK
	}
	if err := s.readConfig(o); err != nil {
		return s.fail(err)
	}
	p, err := prepare(ctx, s, o)
	if err != nil {
		return s.fail(err)
	}
	if o.dryRun {
		if err := p.print(defused(s.stdout)); err != nil {
			return s.fail(err)
		}
		return exitOK
	}
	selection := recorded.engineSelection(o)
	addConfiguredProxies(o, selection)
	s.maskProxies(o.proxies)
	forgetValues(environment, given)
	forgetProxies(environment)
	forgetSecrets(environment, o.build.Secrets)
	s.args = withoutProxies(withoutValues(s.args, given), o.proxies.AsWritten)
	return build(ctx, s, o, p, selection, newState(s, environment, p))
}

// build runs the plan: connect and look up, build, deliver, save, report.
func build(ctx context.Context, s surroundings, o *options, p *prepared, selection engine.Selection, st *state) int {
	s.maskSecrets(o.build.Secrets)
	r := newRecorder(s.platform, o, p)
	trap, release := outliving(ctx, grace(o, p.facts.Provider))
	defer release()
	e, err := engine.Connect(ctx, selection)
	if err != nil {
		return s.fail(err)
	}
	defer e.Close()
	r.engine(e.Name, e.BuildKit)
	if err := check(e, o); err != nil {
		return s.fail(err)
	}
	if err := p.editFile(ctx, s, e, o); err != nil {
		return s.fail(err)
	}
	led := s.leadThroughProxies(ctx, o, p, e)
	client := registry.NewClient(s.registryOptions())

	p.plan.CacheInImages = !e.RegistryCache
	helper := mountHelper(ctx, e, p)
	started := time.Now()
	found := s.look(ctx, client, p)
	if e.BuildKit { // the classic builder's keys know neither
		found.Warnings = append(found.Warnings, found.Differences(p.plan)...)
	}
	view := cache.Compose(ctx, client, p.plan, found)
	r.lookedUp(found, view, started)
	s.tellLookup(o, p, found, view)

	started = time.Now()
	k := &keeper{
		options: o, prepared: p, engine: e, state: st, warn: s.talk, mounts: newMountKeeper(o, p, client, found, helper),
		newSaver: func(b engine.Build) *cache.Saver { return cache.NewSaver(client, b, p.plan, found, version()) },
	}
	k.writeState(nil, false)
	ask := request(s, o, p, view)
	ask.Mounts = k.mounts.request(view)
	b, outcome, err := buildWith(ctx, s, e, ask, k, led)
	if err != nil {
		return s.fail(err)
	}
	defer b.Close()
	r.built(outcome, started)
	r.report.Warnings = append(r.report.Warnings, led.warnings...)

	// From here on the work of the build is done: what follows is the exit
	// trap. A signal shortens it but does not skip it.
	started = time.Now()
	trap, limit := context.WithTimeoutCause(trap, saveLimit, errSaveTime)
	defer limit()
	delivered, deliverErr := deliver(trap, s, o, p, b, outcome)
	r.delivered(delivered, deliverErr)
	saved := k.save(trap, b, outcome, delivered)
	if outcome.Result != engine.BuildCanceled {
		r.attribute(trap, b, view)
	}
	r.saved(b.Steps(), saved, k, started)
	r.report.Warnings = append(r.report.Warnings, p.bustedBy(found, b.Steps())...)
	r.mounts(k.mounts, outcome)

	b.Close() // ends the progress, and with it BuildKit's own summary of errors
	if outcome.Result != engine.OK {
		s.tellFailure(p, outcome)
	}
	if err := r.write(s, o); err != nil {
		s.talk("warning: %v", err)
	}
	s.tellLeft(o, k)
	return s.exitStatus(ctx, outcome, deliverErr)
}

// buildWith builds, and builds once more without the cache when it was the
// cache that failed the build: BuildKit treats a blob that is listed and gone
// as an error, not as a miss (moby/buildkit #2332). Likewise without proxies
// that went away while steps were led through them.
func buildWith(ctx context.Context, s surroundings, e *engine.Engine, r engine.Request, k *keeper, led *proxying) (engine.Build, engine.Outcome, error) {
	given := r.Options
	r.Options = led.into(given)
	b, outcome, err := buildOnce(ctx, e, r, k)
	if err == nil && outcome.Result == engine.BuildFailed && led.diedMeanwhile(ctx, r, outcome) {
		b.Close()
		led.tell()
		s.talk("building again without it")
		r.Options = led.into(given)
		b, outcome, err = buildOnce(ctx, e, r, k)
	}
	led.tell()
	if err != nil || outcome.Result != engine.BuildFailed || len(r.Imports) == 0 || !outcome.CacheFault() {
		return b, outcome, err
	}
	b.Close()
	s.talk("warning: the cache %s broke the build (%s); building again without it", cmp.Or(r.Imports[0].Attributes["ref"], "served by this build"), outcome.Message(r))
	r.Imports, r.Mounts.Records = nil, nil
	return buildOnce(ctx, e, r, k)
}

func buildOnce(ctx context.Context, e *engine.Engine, r engine.Request, k *keeper) (engine.Build, engine.Outcome, error) {
	b, err := e.Start(ctx, r)
	if err != nil {
		return nil, engine.Outcome{}, err
	}
	k.imported = len(r.Imports)+len(r.StageImages) > 0
	stop := k.watch(ctx, b)
	outcome := b.Wait()
	stop(outcome)
	return b, outcome, nil
}

// deliver gives the image of a successful build its names and destinations.
func deliver(ctx context.Context, s surroundings, o *options, p *prepared, b engine.Build, outcome engine.Outcome) (engine.Delivered, error) {
	if outcome.Result != engine.OK {
		return engine.Delivered{}, nil
	}
	d := engine.Delivery{
		Names: p.names(), Push: p.plan.Push, Outputs: o.build.Outputs, CacheTo: o.build.CacheTo, Stdout: s.stdout,
		Discard: o.discard, Identify: o.quiet || o.iidFile != "" || o.metadataFile != "",
	}
	delivered, err := b.Deliver(ctx, d)
	if err != nil {
		return delivered, err
	}
	return delivered, errors.Join(writeIIDFile(o, delivered), writeMetadata(o, delivered), s.printID(o, delivered))
}
