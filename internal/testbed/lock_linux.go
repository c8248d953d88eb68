package testbed

import (
	"fmt"
	"os"
	"syscall"
)

// lock takes an exclusive lock on a file. It holds between processes and between
// the tests of one, and ends with the process at the latest. If it is not to
// wait, unlock is nil where another has the lock.
func lock(path string, wait bool) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		how := syscall.LOCK_EX
		if !wait {
			how |= syscall.LOCK_NB
		}
		err := syscall.Flock(int(file.Fd()), how)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			_ = file.Close()
			if err == syscall.EWOULDBLOCK && !wait {
				return nil, nil
			}
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		return func() { _ = file.Close() }, nil
	}
}
