//go:build !linux

package testbed

import "errors"

// lock is never reached: possible says that a testbed needs Linux.
func lock(string) (func(), error) {
	return nil, errors.ErrUnsupported
}
