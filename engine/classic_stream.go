package engine

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// classicStream reads what the classic builder says of its steps. It numbers
// every instruction up to the target, ARG before FROM and FROM included, and
// one for the labels of the command line (moby/moby
// builder/dockerfile/evaluator.go, dispatchers.go, internals.go).
//
// The builder's lines and what steps print come mixed, with nothing to tell
// them apart. But each line of the builder is one message, and while a
// container runs the only one is that it is removed.
type classicStream struct {
	total int
	steps []classicStep // by number, from 1
	// images are the ids of the finished stages' images, with the step that
	// ended each.
	images    []classicImage
	container string // that runs
}

// classicStep is what was read of one step.
type classicStep struct {
	text    string
	cached  bool   // a hit was seen
	ran     bool   // work was seen
	image   string // the short id of its result, "" while there is none
	scratch bool   // the result is the empty image, which has no id
	begun   time.Time
	ended   time.Time
}

type classicImage struct {
	step int
	id   string
}

var (
	classicStepLine    = regexp.MustCompile(`^Step ([0-9]{1,6})/([0-9]{1,6}) : ((?s).*)$`)
	classicImageLine   = regexp.MustCompile(`^ ---> ((?:sha256:)?[0-9a-f]{12,64})?\n$`)
	classicRunLine     = regexp.MustCompile(`^ ---> Running in ([0-9a-f]{12,64})\n$`)
	classicRemovedLine = regexp.MustCompile(`^(?: ---> Removed|Removing) intermediate container ([0-9a-f]{12,64})\n$`)
)

// current is the step that is being done, nil before the first.
func (s *classicStream) current() *classicStep {
	if len(s.steps) == 0 {
		return nil
	}
	return &s.steps[len(s.steps)-1]
}

// observe takes in one message.
func (s *classicStream) observe(m dockerMessage, now time.Time) {
	step := s.current()
	if s.container != "" {
		if match := classicRemovedLine.FindStringSubmatch(m.Stream); match != nil && match[1] == s.container {
			s.container = ""
		}
		return
	}
	if match := classicStepLine.FindStringSubmatch(m.Stream); match != nil {
		s.begin(match, now)
		return
	}
	if step == nil {
		return
	}
	if len(m.Aux) > 0 {
		s.observeAux(m.Aux)
		return
	}
	if match := classicRunLine.FindStringSubmatch(m.Stream); match != nil {
		step.ran, s.container = true, match[1]
		return
	}
	if m.Stream == " ---> Using cache\n" {
		step.cached = true
		return
	}
	if match := classicImageLine.FindStringSubmatch(m.Stream); match != nil {
		step.image, step.scratch, step.ended = match[1], match[1] == "", now
	}
}

// begin starts the next step. A line that does not continue the count is none
// of the builder's.
func (s *classicStream) begin(match []string, now time.Time) {
	number, _ := strconv.Atoi(match[1]) // digits
	total, _ := strconv.Atoi(match[2])
	if number != len(s.steps)+1 || total < number || s.total != 0 && s.total != total {
		return
	}
	s.total = total
	s.steps = append(s.steps, classicStep{text: strings.TrimSuffix(match[3], "\n"), begun: now})
}

func (s *classicStream) observeAux(raw json.RawMessage) {
	var aux struct{ ID digest.Digest }
	if json.Unmarshal(raw, &aux) == nil && aux.ID.Validate() == nil {
		s.images = append(s.images, classicImage{step: len(s.steps), id: aux.ID.String()})
	}
}

// complete tells whether a step has a result. ARG before FROM has none.
func (c classicStep) complete() bool { return c.image != "" || c.scratch }
