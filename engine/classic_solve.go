package engine

import (
	"strings"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
)

// classicSolve is one solve of some stages, and what was seen of it.
type classicSolve struct {
	file   *stages.File
	stage  int            // the last one, which is the target
	stands map[int]string // the images that stand for stages, by stage
	labels bool           // the builder adds an instruction for those of the command line
	first  bool           // of the build
	stream classicStream
	end    Status // of the step that was never finished; "" while the solve lasts
}

// instructions is how many a stage has, FROM included.
func (s *classicSolve) instructions(stage int) int {
	if s.stands[stage] != "" {
		return 1
	}
	return 1 + len(s.file.Stages[stage].Instructions)
}

// arguments is how many ARGs before the first FROM the builder has counted.
func (s *classicSolve) arguments() int {
	count := s.stream.total
	for stage := range s.stage + 1 {
		count -= s.instructions(stage)
	}
	if s.labels {
		count--
	}
	return count
}

// locate gives the stage and the instruction in it, -1 for FROM, that a step
// is. Not ok are ARGs before FROM, labels of the command line, and a stream
// that does not fit to the file.
func (s *classicSolve) locate(number int) (stage, instruction int, ok bool) {
	arguments := s.arguments()
	rest := number - arguments - 1
	if arguments < 0 || rest < 0 || number > len(s.stream.steps) {
		return 0, 0, false
	}
	for stage := range s.stage + 1 {
		if count := s.instructions(stage); rest >= count {
			rest -= count
			continue
		}
		kind := "FROM"
		if rest > 0 {
			kind = s.file.Stages[stage].Instructions[rest-1].Kind
		}
		word, _, _ := strings.Cut(s.stream.steps[number-1].text, " ")
		return stage, rest - 1, strings.EqualFold(word, kind)
	}
	return 0, 0, false
}

// each calls visit with every step that makes a file system, and what became
// of it. A FROM is one where the base image has triggers.
func (s *classicSolve) each(visit func(Step)) {
	for i, read := range s.stream.steps {
		stage, index, ok := s.locate(i + 1)
		if !ok || s.stands[stage] != "" {
			continue
		}
		line := s.file.Stages[stage].Head.First
		if index >= 0 {
			line = s.file.Stages[stage].Instructions[index].Lines.First
			if !s.file.Stages[stage].Instructions[index].Step() {
				continue
			}
		} else if !read.ran && !read.cached {
			continue
		}
		_, in, _ := instructionAt(s.file, line) // a line of an instruction
		last := i == len(s.stream.steps)-1
		status, worked := read.status(last, s.end)
		visit(Step{Stage: stage, Line: in.Lines.First, Instruction: in.Text, Status: status, Duration: worked})
	}
}

// failedLine is the line of the instruction at which the solve ended, 0 when
// there is none.
func (s *classicSolve) failedLine() int {
	step := s.stream.current()
	if step == nil || step.complete() {
		return 0
	}
	stage, index, ok := s.locate(len(s.stream.steps))
	switch {
	case !ok:
		return 0
	case index < 0:
		return s.file.Stages[stage].Head.First
	default:
		return s.file.Stages[stage].Instructions[index].Lines.First
	}
}

// status is what became of a step that was begun. end is what the last one is
// that has no result: "" while it is being worked on.
func (c classicStep) status(last bool, end Status) (Status, time.Duration) {
	switch {
	case !c.complete() && last && end != "":
		return end, 0
	case !c.complete():
		return Pending, 0
	case c.cached && !c.ran:
		return Cached, 0
	default:
		return Ran, c.ended.Sub(c.begun)
	}
}
