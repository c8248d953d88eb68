package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/opencontainers/go-digest"
)

// Status is what became of a step.
type Status string

// The statuses of a step. A step that was never reached is pending.
const (
	Pending  Status = "pending"
	Cached   Status = "cached"
	Ran      Status = "ran"
	Failed   Status = "failed"
	Canceled Status = "canceled"
)

// Step is one instruction of the Dockerfile that the engine had to satisfy.
type Step struct {
	Stage       int           `json:"stage"`       // index in the Dockerfile
	Line        int           `json:"line"`        // first line, 1-based
	Instruction string        `json:"instruction"` // for people: its text on one line
	Status      Status        `json:"status"`
	Duration    time.Duration `json:"duration,omitempty"` // zero when cached
}

// Complete tells whether the step has a result.
func (s Step) Complete() bool { return s.Status == Cached || s.Status == Ran }

// worse orders the statuses of one instruction's several vertices (platforms,
// heredocs): the instruction is only as good as its worst vertex.
func worse(a, b Status) Status {
	rank := map[Status]int{Cached: 1, Ran: 2, Pending: 3, Canceled: 4, Failed: 5}
	if rank[a] >= rank[b] {
		return a
	}
	return b
}

// instructionAt is the step instruction that owns a line of the Dockerfile. A
// FROM line stands for the ONBUILD triggers of its base image.
func instructionAt(file *stages.File, line int) (stage int, in stages.Instruction, ok bool) {
	stage, index, ok := file.Find(line)
	if !ok {
		return 0, stages.Instruction{}, false
	}
	if index < 0 {
		return stage, stages.Instruction{Kind: "ONBUILD", Lines: file.Stages[stage].Lines, Text: "ONBUILD triggers of " + file.Stages[stage].Base}, true
	}
	return stage, file.Stages[stage].Instructions[index], true
}

// stepVertex is a vertex and the instruction that it is part of. Several
// platforms, and some instructions, make several vertices of one instruction.
type stepVertex struct {
	vertex      digest.Digest
	stage       int
	instruction stages.Instruction
}

// stepVertices finds the steps of the requested stages in a definition. All
// lines of a heredoc lead to one instruction.
func (b *solveBuild) stepVertices(g *graph) []stepVertex {
	var found []stepVertex
	for _, vertex := range g.order {
		if g.fetched(vertex) {
			continue
		}
		first := len(found)
		for _, line := range g.lines(vertex, dockerfileName) {
			stage, in, ok := instructionAt(b.request.File, line)
			known := slices.ContainsFunc(found[first:], func(s stepVertex) bool { return s.instruction.Lines == in.Lines })
			if ok && !known && slices.Contains(b.request.Stages, stage) {
				found = append(found, stepVertex{vertex, stage, in})
			}
		}
	}
	return found
}

// Steps implements Build.
func (b *solveBuild) Steps() []Step {
	select {
	case <-b.planned:
	default:
		return nil
	}
	ended := b.ended()
	byLine := map[int]*Step{}
	for _, g := range b.graphs {
		for _, s := range g.steps {
			status, worked := b.tracker.status(g.graph, s.vertex, ended)
			if status == Pending && b.succeeded() {
				status = Cached // nothing asked for it: what needs it was a hit
			}
			line := s.instruction.Lines.First
			step := byLine[line]
			if step == nil {
				step = &Step{Stage: s.stage, Line: line, Instruction: s.instruction.Text, Status: status}
				byLine[line] = step
			}
			step.Status = worse(step.Status, status)
			step.Duration += worked
		}
	}
	steps := make([]Step, 0, len(byLine))
	for _, line := range slices.Sorted(maps.Keys(byLine)) {
		steps = append(steps, *byLine[line])
	}
	return steps
}
