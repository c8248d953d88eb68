package engine

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Snapshot is what another process needs to go on saving what a build
// completed, on the same engine: plain data. It holds the build arguments, as
// the engine's definition does, but no secrets.
type Snapshot struct {
	Platforms []PlatformSnapshot `json:"platforms,omitempty"`
	Vertices  []VertexSnapshot   `json:"vertices,omitempty"`
	// Steps stand in for definition and vertices where the engine keeps caches
	// inside images alone; Images are results of theirs in its store, which
	// the classic builder has nowhere else.
	Steps  []Step          `json:"steps,omitempty"`
	Images []ImageSnapshot `json:"images,omitempty"`
	// Names are those of completed vertices or steps.
	Names []string `json:"names"`
	// Ran are the names of those completed vertices that were no hits.
	Ran []string `json:"ran,omitempty"`
	// Result is "" while the build was running.
	Result Result `json:"result"`
}

// PlatformSnapshot is the definition for one platform.
type PlatformSnapshot struct {
	ID         string           `json:"id"`
	Platform   ocispec.Platform `json:"platform"`
	Definition []byte           `json:"definition"` // pb.Definition
	Ends       []EdgeSnapshot   `json:"ends"`
}

// EdgeSnapshot is where a stage ends.
type EdgeSnapshot struct {
	Stage  int           `json:"stage"`
	Vertex digest.Digest `json:"vertex"`
	Output int64         `json:"output"`
}

// VertexSnapshot is what became of a vertex.
type VertexSnapshot struct {
	Digest    digest.Digest `json:"digest"`
	Cached    bool          `json:"cached,omitempty"`
	Inferred  bool          `json:"inferred,omitempty"`
	Completed bool          `json:"completed,omitempty"`
	Running   bool          `json:"running,omitempty"`
	Error     string        `json:"error,omitempty"`
	Started   time.Time     `json:"started,omitzero"` // of its last run
	Worked    time.Duration `json:"worked,omitempty"`
}

// snapshotOf is the snapshot of a build that consists of steps. outcome is set
// once ended is closed.
func snapshotOf(steps []Step, ended <-chan struct{}, outcome *Outcome) Snapshot {
	s := Snapshot{Steps: steps}
	for _, step := range steps {
		if step.Complete() {
			s.Names = append(s.Names, step.Instruction)
		}
	}
	select {
	case <-ended:
		s.Result = outcome.Result
	default:
	}
	return s
}

// ImageSnapshot is the newest image of a stage in an engine's store.
type ImageSnapshot struct {
	Stage int    `json:"stage"`
	ID    string `json:"id"`
	Whole bool   `json:"whole"` // it is the stage's, not that of a step before its end
}

// Resumable is a build that another process can go on saving, by Resume.
type Resumable interface {
	// Snapshot is how far the build is; not ok before it is planned.
	Snapshot() (s Snapshot, ok bool)
}

// Snapshot implements Resumable.
func (b *solveBuild) Snapshot() (Snapshot, bool) {
	select {
	case <-b.planned:
	default:
		return Snapshot{}, false
	}
	var s Snapshot
	for _, g := range b.graphs {
		definition, err := g.graph.definition.MarshalVT()
		if err != nil {
			return Snapshot{}, false
		}
		p := PlatformSnapshot{ID: g.id, Platform: g.platform, Definition: definition}
		for stage, end := range g.ends {
			p.Ends = append(p.Ends, EdgeSnapshot{stage, end.vertex, end.output})
		}
		slices.SortFunc(p.Ends, func(a, b EdgeSnapshot) int { return a.Stage - b.Stage })
		s.Platforms = append(s.Platforms, p)
	}
	s.Vertices, s.Names, s.Ran = b.tracker.snapshot()
	if b.ended() {
		s.Result = b.outcome.Result
	}
	return s, true
}
