package engine

import (
	"testing"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/google/go-cmp/cmp"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// An instruction over several lines has one location for each of them.
func TestStepsCountAnInstructionOnce(t *testing.T) {
	t.Parallel()
	file, err := stages.Parse([]byte("FROM scratch\nRUN one \\\n && two \\\n && three\n"), stages.Options{})
	if err != nil {
		t.Fatal(err)
	}
	vertex := digest.FromString("vertex")
	location := &pb.Location{}
	for line := int32(2); line <= 4; line++ {
		location.Ranges = append(location.Ranges, &pb.Range{Start: &pb.Position{Line: line}, End: &pb.Position{Line: line}})
	}
	g := &graph{
		definition: &pb.Definition{Source: &pb.Source{
			Infos:     []*pb.SourceInfo{{Filename: dockerfileName}},
			Locations: map[string]*pb.Locations{string(vertex): {Locations: []*pb.Location{location}}},
		}},
		ops: map[digest.Digest]*pb.Op{vertex: {}}, order: []digest.Digest{vertex},
	}
	b := &solveBuild{
		request: Request{File: file, Stages: []int{0}}, tracker: newTracker(), graphs: []platformGraph{{graph: g}},
		planned: make(chan struct{}), evaluated: make(chan struct{}),
	}
	b.graphs[0].steps = b.stepVertices(g)
	close(b.planned)
	started := time.Unix(0, 0)
	completed := started.Add(time.Minute)
	b.tracker.observe(&bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: vertex, Started: &started, Completed: &completed}}})
	want := []Step{{Line: 2, Instruction: file.Stages[0].Instructions[0].Text, Status: Ran, Duration: time.Minute}}
	if diff := cmp.Diff(want, b.Steps()); diff != "" {
		t.Error(diff)
	}
}
