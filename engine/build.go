package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/grpcerrors"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
)

// Request is one build: what, from which caches, and how it is shown.
type Request struct {
	Options Options
	File    *stages.File
	// Stages are the stages to satisfy, ascending, with all that they need;
	// Target is the one of them that is the image.
	Stages []int
	Target int
	// Imports are the caches to use. Where there is more than one, BuildKit
	// takes hits from whichever answers first (moby/buildkit #6418).
	Imports []CacheSpec
	// Stores are what the session serves to imports of type local, by their
	// src; see LocalImport.
	Stores map[string]content.Store
	// StageImages are the references, by stage, of earlier images that hold
	// the cache themselves: for engines that import nothing else.
	StageImages map[int][]string
	// Staging tells builds of one repository apart that may run at once (a
	// branch, say): engines that push by tag alone use a tag of their own for
	// each stage, which two builds should not share. See Build.PushStage.
	Staging string
	// KeepGoing lets other stages finish after one has failed.
	KeepGoing bool
	Mounts    MountRequest

	Progress Progress
}

// Progress says how a build is shown: in which mode of docker build's
// --progress (auto, plain, tty, quiet, rawjson) and where.
type Progress struct {
	Mode string
	Out  io.Writer
	// Quiet is how long nothing may be printed before a line says what runs,
	// for CIs that end what is silent; 0 for ever.
	Quiet time.Duration
	// Hidden are values that steps may print and nobody is to see: they are
	// masked in lines that arrive whole.
	Hidden []string
}

// Build is a build in progress or just ended, whose results the engine still
// holds. All methods may be called at any time until Close; those that write
// to a registry take whatever is complete at that moment.
type Build interface {
	// Wait blocks until every stage has been built or the build has failed
	// or been canceled through the context that started it.
	Wait() Outcome
	// Steps is what became of each step so far, in the order of the file.
	Steps() []Step
	// ExportCache writes the cache of every completed step, or of those in
	// some stages and in what they need, to a reference and returns the cache
	// manifest's descriptor. ErrNothingComplete when there is nothing yet;
	// ErrNoSeparateCache from engines whose images carry their cache; else an
	// *ExportError.
	ExportCache(ctx context.Context, ref string, stages ...int) (ocispec.Descriptor, error)
	// PushStage uploads the image of a completed stage to a repository,
	// untagged where the engine can, and returns its descriptor.
	PushStage(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error)
	// PushPartial uploads what is complete of a stage that is not, up to the
	// step before the first incomplete one, as an image that carries its
	// cache. ErrNothingComplete when that is nothing; ErrSeparateCache from
	// engines whose images carry none.
	PushPartial(ctx context.Context, stage int, repository string) (ocispec.Descriptor, error)
	// Deliver gives the finished image its names and destinations. That one of
	// them was not reached is a *DeliveryError.
	Deliver(ctx context.Context, d Delivery) (Delivered, error)
	// Close lets go of the build. It stops what still runs.
	Close() error
}

// Delivery is where the finished image goes.
type Delivery struct {
	Names   []string    // fully qualified tags
	Push    bool        // to their registries
	Outputs []Output    // --output; of type docker without a destination, --load
	Stdout  io.Writer   // for an output whose destination is "-"
	CacheTo []CacheSpec // further --cache-to
	// Discard says that no engine is to keep the image: --output type=cacheonly.
	Discard bool
	// Identify asks for the image's ID even if the image goes nowhere.
	Identify bool
}

// Delivered identifies the image that was delivered.
type Delivered struct {
	Digest string // of its manifest or index, "" when nothing was pushed
	// ImageID is what --iidfile holds: the config digest, or the manifest
	// digest with a containerd image store.
	ImageID  string
	Metadata map[string]string // the exporter's response, for --metadata-file
}

// Errors that a caller meets in normal operation.
var (
	ErrNothingComplete = errors.New("no step is complete")
	ErrNoSeparateCache = errors.New("the engine exports no separate cache")
	ErrLost            = errors.New("the engine no longer holds what was completed")
	ErrSeparateCache   = errors.New("the engine's images carry no cache")
)

// Result is how a build ended.
type Result string

// The results of a build.
const (
	OK            Result = "ok"
	BuildFailed   Result = "failed"
	BuildCanceled Result = "canceled"
)

// Outcome is how a build ended and, unless it is OK, why.
type Outcome struct {
	Result Result
	Err    error
	// Line is the first line of the failing instruction, 0 when unknown.
	Line int
}

// Excerpt writes the failing lines of the Dockerfile, as docker build does, as
// people wrote them and without what was appended to it for the engine.
func (o Outcome) Excerpt(w io.Writer, file *stages.File) {
	for _, source := range errdefs.Sources(o.Err) {
		if info := source.Info; info != nil {
			info.Data = written{file: file}.source(info.Data) // source is a copy
		}
		source.Print(w)
	}
}

// Message is why the build did not succeed, with commands as people wrote them
// and without what Progress hides; "" if it did.
func (o Outcome) Message(r Request) string {
	if o.Err == nil {
		return ""
	}
	w := written{r.File, r.Progress.Hidden}
	return w.mask(w.text(o.Err.Error()))
}

// EngineGone tells whether the engine, not the build, has failed: it was
// stopped, or the connection to it broke.
func (o Outcome) EngineGone() bool {
	return o.Result == BuildFailed && grpcerrors.Code(o.Err) == codes.Unavailable
}

// CacheFault tells whether the build may have failed for its imported cache
// instead of for itself: a blob that a cache lists and the registry has lost
// is an error to BuildKit ("failed to compute cache key: ...: not found",
// moby/buildkit #2332), without a type of its own. A file that a COPY does not
// find reads alike, but names a path in quotes.
func (o Outcome) CacheFault() bool {
	if o.Err == nil || errors.As(o.Err, new(*gatewaypb.ExitError)) {
		return false
	}
	text := o.Err.Error()
	return lostContent.MatchString(text) && !lostFile.MatchString(text)
}

var (
	lostContent = regexp.MustCompile(`not found|unexpected status|failed to do request|failed size validation|failed to copy`)
	lostFile    = regexp.MustCompile(`"[^"]*": not found`)
)

// failingLine is the Dockerfile line that an error of BuildKit names.
func failingLine(err error) int {
	for _, source := range errdefs.Sources(err) {
		for _, r := range source.Ranges {
			return int(r.Start.Line)
		}
	}
	return 0
}

// canceledOutcome is the outcome of a build whose context ended.
func canceledOutcome(ctx context.Context) Outcome {
	return Outcome{Result: BuildCanceled, Err: fmt.Errorf("build: %w", context.Cause(ctx))}
}

// streamLag is how far BuildKit's status stream may trail the answer to an
// evaluation (measured up to 250 ms).
const streamLag = 300 * time.Millisecond
