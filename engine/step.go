package engine

import (
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
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
	Stage       int    // index in the Dockerfile
	Line        int    // first line, 1-based
	Instruction string // for people: its text on one line
	Status      Status
	Duration    time.Duration // zero when cached
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
