package testbed

import (
	"fmt"
	"os"
	"syscall"
)

// lock waits for an exclusive lock on a file. It holds between processes and
// between the tests of one, and ends with the process at the latest.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		return func() { _ = file.Close() }, nil
	}
}
