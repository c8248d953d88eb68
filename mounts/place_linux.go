package mounts

import (
	"strings"

	"golang.org/x/sys/unix"
)

// place goes about the directories of a mount, by descriptors and name by
// name, so that no symbolic link leads it anywhere. It holds the directory it
// is in, and those above it: what comes next is most often near.
type place struct {
	root  int // not closed
	names []string
	fds   []int
}

func newPlace(root int) *place { return &place{root: root} }

// at is a descriptor of a directory, good for the *at calls until the next
// one.
func (p *place) at(path string) (int, error) {
	shared := 0
	rest := path
	for rest != "" && shared < len(p.names) {
		name, after, _ := strings.Cut(rest, "/")
		if name != p.names[shared] {
			break
		}
		shared++
		rest = after
	}
	p.leave(shared)
	for rest != "" {
		name, after, _ := strings.Cut(rest, "/")
		fd, err := openAt(p.here(), name, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return 0, pathError("open", path, err)
		}
		p.names, p.fds = append(p.names, name), append(p.fds, fd)
		rest = after
	}
	return p.here(), nil
}

// of is the directory that a path's last name is in, and that name.
func (p *place) of(path string) (fd int, name string, err error) {
	parent, name := split(path)
	fd, err = p.at(parent)
	return fd, name, err
}

func (p *place) here() int {
	if len(p.fds) == 0 {
		return p.root
	}
	return p.fds[len(p.fds)-1]
}

// leave goes up until so many names are left.
func (p *place) leave(left int) {
	for i := len(p.fds) - 1; i >= left; i-- {
		unix.Close(p.fds[i])
	}
	p.names, p.fds = p.names[:left], p.fds[:left]
}

func (p *place) close() { p.leave(0) }

// openAt opens a name and never follows a link in its place.
func openAt(directory int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(directory, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
