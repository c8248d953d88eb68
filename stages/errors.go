package stages

import (
	"errors"
	"fmt"
)

var (
	// ErrNoStages says that a Dockerfile has no FROM: it is empty, or holds
	// nothing but comments and ARGs.
	ErrNoStages = errors.New("dockerfile has no FROM instruction")
	// ErrTooLarge says that a Dockerfile is larger than MaxSize.
	ErrTooLarge = fmt.Errorf("dockerfile is larger than %d bytes", MaxSize)
	// ErrNoInstruction says that a line belongs to no instruction after FROM,
	// so that there is nothing to cut.
	ErrNoInstruction = errors.New("no instruction at line")
)

// SyntaxError is a Dockerfile that BuildKit's frontend would refuse.
type SyntaxError struct {
	Line    int    // of the offending instruction, 1-based
	Message string // one line
	// Syntax is File.Syntax: the frontend that the file asks for may know a
	// newer grammar than the parser built in here.
	Syntax string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("dockerfile line %d: %s", e.Line, e.Message)
}

// UnknownTargetError is a target that names no stage.
type UnknownTargetError struct {
	Target  string
	Known   []string // Stage.Target of every stage, in order
	Nearest string   // the name that was probably meant, "" if none is near
}

func (e *UnknownTargetError) Error() string {
	msg := fmt.Sprintf("dockerfile has no stage %q", e.Target)
	if e.Nearest != "" {
		msg += fmt.Sprintf(", did you mean %q?", e.Nearest)
	}
	return msg
}
