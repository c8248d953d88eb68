package testbed

import (
	"fmt"
	"os"
	"syscall"
)

// lock takes an exclusive lock on a file, or returns no unlock where another has
// it. It holds between processes and between the tests of one, and ends with the
// process at the latest.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		return func() { _ = file.Close() }, nil
	}
	_ = file.Close()
	if err == syscall.EWOULDBLOCK {
		return nil, nil
	}
	return nil, fmt.Errorf("locking %s: %w", path, err)
}
