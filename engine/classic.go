package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/docker/docker/api/types/build"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// maxPulls bounds the images that are pulled at once.
const maxPulls = 3

// classicBuild is a build on the classic builder of a Docker Engine.
//
// The builder builds every stage of its Dockerfile, needed or not, and takes
// hits from all images it is given as if they were one list: the first that
// has a stage's first step is the only one from there on, in the stages that
// follow too (moby/moby image/cache, GetCache). So a stage with an earlier
// image is a solve of its own, which sees no other images, and finds the
// stages before as images (stages.File.WithImages). Stages without one go
// together, and find what the engine has.
type classicBuild struct {
	engine  *Engine
	request Request
	options build.ImageBuildOptions
	labels  map[string]string // of the target
	images  *imageStore
	last    int // the last stage that is built
	out     io.Writer

	heartbeat *heartbeat // nil for none

	mu     sync.Mutex
	solves []*classicSolve
	keeper string   // a name of the delivered image
	left   Snapshot // by another process, whose build this goes on saving

	pulled map[int][]string // earlier images that are in the store, by stage; run's own

	ended     chan struct{} // closed once outcome is set
	outcome   Outcome
	stop      context.CancelFunc
	closeOnce sync.Once
	closeErr  error
}

// startClassic begins a build.
func (e *Engine) startClassic(ctx context.Context, r Request) (*classicBuild, error) {
	if err := checkClassicOptions(r.Options, e.Name); err != nil {
		return nil, err
	}
	options, err := classicOptions(r.Options)
	if err != nil {
		return nil, err
	}
	images := &imageStore{docker: e.docker, config: e.selection.Config}
	options.AuthConfigs = images.allAuths()
	b := e.newClassic(r, images)
	b.options = options
	for _, label := range r.Options.Labels {
		b.labels[label.Key] = label.Value
	}
	if r.Progress.Quiet > 0 {
		b.heartbeat = newHeartbeat(b.out, r.Progress.Quiet)
		b.out = b.heartbeat
	}
	if r.Progress.Mode == "quiet" {
		b.out = io.Discard
	}
	ctx, b.stop = context.WithCancel(ctx)
	go b.run(ctx)
	return b, nil
}

// resumeClassic makes what another process left of a build exportable.
func (e *Engine) resumeClassic(r Request, s Snapshot) *classicBuild {
	b := e.newClassic(r, &imageStore{docker: e.docker, config: e.selection.Config})
	b.left, b.outcome, b.stop = s, s.outcome(), func() {}
	close(b.ended)
	return b
}

func (e *Engine) newClassic(r Request, images *imageStore) *classicBuild {
	return &classicBuild{
		engine: e, request: r, labels: map[string]string{}, images: images,
		last: slices.Max(r.Stages), out: r.Progress.Out,
		pulled: map[int][]string{}, ended: make(chan struct{}),
	}
}

func (b *classicBuild) run(ctx context.Context) {
	defer close(b.ended)
	err := b.build(ctx)
	switch {
	case ctx.Err() != nil:
		b.outcome = canceledOutcome(ctx)
	case err != nil:
		b.outcome = Outcome{Result: BuildFailed, Err: err, Line: failingLine(err)}
	default:
		b.outcome = Outcome{Result: OK}
	}
}

func (b *classicBuild) build(ctx context.Context) error {
	var archive *contextArchive
	work, working := errgroup.WithContext(ctx)
	work.Go(func() (err error) {
		archive, err = newContextArchive(working, b.request.Options)
		return err
	})
	if !b.request.Options.NoCache {
		work.Go(func() error {
			b.pull(working)
			return nil
		})
	}
	if b.request.Options.Pull {
		work.Go(func() error { return b.pullBases(working) })
	}
	err := work.Wait()
	if archive != nil {
		defer archive.remove()
	}
	if err != nil {
		return err
	}
	failed := map[int]bool{}
	for rest := b.buildable(); len(rest) > 0; {
		var together []int
		together, rest = b.next(rest)
		if slices.ContainsFunc(b.request.File.Reachable(together...), func(stage int) bool { return failed[stage] }) {
			continue
		}
		if solved := b.solve(ctx, together, archive); solved != nil {
			if err == nil {
				err = solved
			}
			if !b.request.KeepGoing || ctx.Err() != nil {
				return err
			}
			b.mu.Lock()
			made := b.stageImages()
			b.mu.Unlock()
			for _, stage := range together {
				failed[stage] = made[stage] == ""
			}
		}
	}
	return err
}

// buildable are the requested stages without those that are nothing but
// scratch: as a target the builder refuses them.
func (b *classicBuild) buildable() []int {
	return slices.DeleteFunc(slices.Clone(b.request.Stages), func(stage int) bool {
		s := b.request.File.Stages[stage]
		return stage != b.request.Target && s.From < 0 && s.Base == "scratch" && len(s.Instructions) == 0
	})
}

// next splits off the stages that the next solve builds.
func (b *classicBuild) next(stages []int) (together, rest []int) {
	triggers := false
	for i, stage := range stages {
		triggers = triggers || hasTriggers(b.request.File.Stages[stage])
		last := i == len(stages)-1
		alone := b.request.KeepGoing || stage == b.request.Target || len(b.pulled[stage]) > 0 || !last && len(b.pulled[stages[i+1]]) > 0
		if last || alone && !triggers {
			return stages[:i+1], stages[i+1:]
		}
	}
	return stages, nil
}

// hasTriggers tells whether a stage has ONBUILD instructions: its image cannot
// stand for it, so that all that follows has to be built with it.
func hasTriggers(s stages.Stage) bool {
	return slices.ContainsFunc(s.Instructions, func(in stages.Instruction) bool { return in.Kind == "ONBUILD" })
}

// pull brings the earlier images into the store. One that cannot be had is a
// miss.
func (b *classicBuild) pull(ctx context.Context) {
	type earlier struct {
		stage int
		name  string
		found bool
	}
	var images []earlier
	for _, stage := range b.request.Stages {
		for _, name := range b.request.StageImages[stage] {
			images = append(images, earlier{stage: stage, name: name})
		}
	}
	for _, spec := range b.request.Imports { // these belong to no stage
		if spec.Type == "registry" {
			images = append(images, earlier{stage: b.request.Target, name: spec.Attributes["ref"]})
		}
	}
	var work errgroup.Group
	work.SetLimit(maxPulls)
	for i := range images {
		work.Go(func() error {
			err := b.images.pull(ctx, images[i].name, b.options.Platform)
			images[i].found = err == nil
			switch {
			case err == nil:
				b.say("Pulled %s as a cache\n", images[i].name)
			case ctx.Err() == nil:
				b.say("warning: not used as a cache: pull %s: %v\n", images[i].name, err)
			}
			return nil
		})
	}
	work.Wait()
	for _, image := range images {
		if image.found {
			b.pulled[image.stage] = append(b.pulled[image.stage], image.name)
		}
	}
}

// say prints a line of the progress.
func (b *classicBuild) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprintf(b.out, format, args...)
}

// pullBases brings the newest base images, for --pull: the builder itself
// would ask a registry for the images that stand for stages too.
func (b *classicBuild) pullBases(ctx context.Context) error {
	pulled := map[string]bool{}
	for _, stage := range b.request.Stages {
		for _, name := range b.request.File.Stages[stage].Images {
			if pulled[name] {
				continue
			}
			pulled[name] = true
			if err := b.images.pull(ctx, name, b.options.Platform); err != nil {
				return fmt.Errorf("pull %s: %w", name, err)
			}
		}
	}
	return nil
}

// solve builds some stages, of which the last is the builder's target.
func (b *classicBuild) solve(ctx context.Context, together []int, archive *contextArchive) error {
	stage := together[len(together)-1]
	s := &classicSolve{file: b.request.File, stage: stage, stands: map[int]string{}}
	options := b.options
	options.Dockerfile = addedDockerfile
	for _, own := range together {
		options.CacheFrom = append(options.CacheFrom, b.pulled[own]...)
	}
	if stage == b.request.Target {
		options.Labels, s.labels = b.labels, len(b.labels) > 0
	}
	b.mu.Lock()
	made := b.stageImages()
	for earlier := range stage {
		if !slices.Contains(together, earlier) {
			s.stands[earlier] = cmp.Or(made[earlier], "scratch")
		}
	}
	s.first = len(b.solves) == 0
	b.solves = append(b.solves, s)
	b.mu.Unlock()
	files, err := archive.open(b.request.File.WithImages(stage, s.stands))
	if err != nil {
		return fmt.Errorf("send build context: %w", err)
	}
	defer files.Close()

	response, err := b.engine.docker.ImageBuild(ctx, files, options)
	if err == nil {
		defer response.Body.Close()
		err = readMessages(response.Body, func(m dockerMessage) {
			b.mu.Lock()
			defer b.mu.Unlock()
			s.stream.observe(m, time.Now())
			b.show(s, m)
		})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.end = Failed
	if ctx.Err() != nil {
		s.end = Canceled
	}
	if err == nil && b.stageImages()[stage] == "" {
		err = errors.New("the engine ended the build without an image")
	}
	if err == nil {
		return nil
	}
	line := s.failedLine()
	if line == 0 {
		line = lineInText(err)
	}
	return withLine(err, line, b.request.File)
}

// show prints a message as docker build does, as if all solves were one.
func (b *classicBuild) show(s *classicSolve, m dockerMessage) {
	number := len(s.stream.steps)
	if stage, _, ok := s.locate(number); ok && s.stands[stage] != "" || !ok && !s.first && number <= s.arguments() {
		return
	}
	own := s.stream.container == "" // the builder's own line, or the last of a step
	switch {
	case own && classicStepLine.MatchString(m.Stream):
		position, total := b.position(s, number)
		b.heartbeat.runs(s.stream.current().text)
		fmt.Fprintf(b.out, "Step %d/%d : %s", position, total, s.stream.current().text)
	case own && strings.HasPrefix(m.Stream, "Successfully built ") && s.stage != b.last:
	case m.Stream != "":
		io.WriteString(b.out, m.Stream)
	case m.Status != "" && len(m.Progress) <= len("{}"): // no bars
		if m.ID != "" {
			fmt.Fprintf(b.out, "%s: ", m.ID)
		}
		fmt.Fprintln(b.out, m.Status)
	}
}

// position is a step's number among those of all solves, and how many there
// are.
func (b *classicBuild) position(s *classicSolve, number int) (position, total int) {
	position, total = number, s.arguments()
	at, index, ok := s.locate(number)
	for _, stage := range b.request.Stages {
		if ok && stage == at {
			position = total + 2 + index
		}
		total += 1 + len(b.request.File.Stages[stage].Instructions)
	}
	if b.last == b.request.Target && len(b.labels) > 0 {
		total++
	}
	if !ok && number > s.arguments() { // the step for the labels
		position = total
	}
	return position, total
}

// Wait implements Build.
func (b *classicBuild) Wait() Outcome {
	<-b.ended
	return b.outcome
}

// ExportCache implements Build.
func (b *classicBuild) ExportCache(context.Context, string, ...int) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, ErrNoSeparateCache
}
