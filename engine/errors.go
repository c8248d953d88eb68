package engine

import "fmt"

// UnsupportedError says that an engine cannot do what an option asks.
type UnsupportedError struct {
	Option string // as typed, such as "--squash"
	Engine string
	Remedy string // what to do instead
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s is not supported by %s", e.Option, e.Engine)
}
