package engine

import (
	"errors"
	"fmt"
	"regexp"
)

// UnsupportedError says that an engine cannot do what an option asks.
type UnsupportedError struct {
	Option string // as typed, such as "--squash"
	Engine string
	Remedy string // what to do instead
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s is not supported by %s", e.Option, e.Engine)
}

// DeliveryError says that a finished image did not reach where it was to go.
type DeliveryError struct{ Err error }

func (e *DeliveryError) Error() string { return "deliver image: " + e.Err.Error() }
func (e *DeliveryError) Unwrap() error { return e.Err }

// Denied tells whether a registry refused the push for want of rights.
// Engines hand on the registry's answer as text only.
func (e *DeliveryError) Denied() bool { return denied.MatchString(e.Err.Error()) }

// ExportError says that something complete could not be written to a registry.
type ExportError struct {
	Op  string // such as "export cache to ghcr.io/acme/app:cache"
	Err error
}

func (e *ExportError) Error() string { return e.Op + ": " + e.Err.Error() }
func (e *ExportError) Unwrap() error { return e.Err }

// Temporary tells whether the same export may succeed when tried again.
func (e *ExportError) Temporary() bool {
	return !denied.MatchString(e.Err.Error()) && !errors.Is(e.Err, ErrLost)
}

var denied = regexp.MustCompile(`\b(401|403)\b|unauthorized|authorization failed|access (is |to the resource is )?denied|: denied\b|no basic auth credentials`)
