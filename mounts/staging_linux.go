package mounts

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// staging is the directory in which a mount is filled. It is locked: one that
// is not was left behind by someone who died.
type staging struct {
	mount *mount
	fd    int
	over  bool // it is empty and removed
}

// claim makes the staging of a mount that is empty, after taking away what a
// restore that died has left; nil if the mount is not empty. It waits for a
// restore that is going on.
func claim(ctx context.Context, m *mount) (*staging, error) {
	root := m.fd
	for {
		names, err := namesIn(root)
		if err != nil {
			return nil, err
		}
		reserved := false
		for _, name := range names {
			reserved = reserved || name == reservedName
		}
		if !reserved && len(names) > 0 {
			return nil, nil
		}
		err = unix.Mkdirat(root, reservedName, 0o700)
		if err != nil && err != unix.EEXIST {
			return nil, pathError("make directory", reservedName, err)
		}
		left := err == unix.EEXIST
		fd, err := openAt(root, reservedName, unix.O_RDONLY|unix.O_DIRECTORY)
		if err == unix.ENOENT {
			continue
		}
		if err == unix.ENOTDIR || err == unix.ELOOP { // nothing of ours
			if err := unix.Unlinkat(root, reservedName, 0); err != nil {
				return nil, pathError("remove", reservedName, err)
			}
			continue
		}
		if err != nil {
			return nil, pathError("open", reservedName, err)
		}
		mine, err := lock(ctx, root, fd)
		if err == nil && mine && !left {
			return &staging{mount: m, fd: fd}, nil
		}
		if err == nil && mine {
			err = m.empty()
		}
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
	}
}

// lock waits for a staging directory; false if it is gone then.
func lock(ctx context.Context, root, fd int) (bool, error) {
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return false, pathError("lock", reservedName, err)
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-ticks.C:
		}
	}
	var held, there unix.Stat_t
	if err := unix.Fstat(fd, &held); err != nil {
		return false, pathError("stat", reservedName, err)
	}
	err := unix.Fstatat(root, reservedName, &there, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && identify(&held).inode == identify(&there).inode, nil
}

func namesIn(directory int) ([]string, error) {
	fd, err := openAt(directory, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, pathError("open", "", err)
	}
	d := os.NewFile(uintptr(fd), ".")
	defer d.Close()
	return d.Readdirnames(-1)
}

// empty removes all that is in a mount, the sign that it is not whole at last.
func (m *mount) empty() error {
	names, err := namesIn(m.fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == reservedName {
			continue
		}
		if err := m.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return m.root.RemoveAll(reservedName)
}

// close takes the staging away if it was not moved out.
func (s *staging) close() {
	if !s.over {
		// What cannot be removed is the sign that the mount is not whole.
		_ = s.mount.root.RemoveAll(reservedName)
	}
	unix.Close(s.fd)
}

// moveOut puts everything in its place, unless another build has begun to fill
// the mount, and tells the time after that. A name that another build takes at
// this very moment stays the other's.
func (s *staging) moveOut(t tree) (filled, error) {
	root := s.mount.fd
	names, err := namesIn(root)
	if err != nil {
		return filled{}, err
	}
	if len(names) != 1 {
		return filled{Warm: true}, nil
	}
	if names, err = namesIn(s.fd); err != nil {
		return filled{}, err
	}
	var moved []string
	undo := func(err error) (filled, error) {
		for _, name := range moved {
			err = errors.Join(err, s.mount.root.RemoveAll(name))
		}
		return filled{}, err
	}
	for _, name := range names {
		err := move(s.fd, root, name)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return undo(pathError("move", name, err))
		}
		moved = append(moved, name)
	}
	self := &t.entries[0]
	if err := setOpen(root, self); err != nil {
		return undo(err)
	}
	if err := s.mount.root.RemoveAll(reservedName); err != nil {
		return undo(err)
	}
	s.over = true
	if err := setTimes(root, ".", self.mtime); err != nil {
		return undo(err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(root, &stat); err != nil {
		return filled{}, pathError("stat", "", err)
	}
	if len(moved) < len(names) {
		return filled{}, nil // what the other wrote is not what the mark vouches for
	}
	return filled{Mark: Mark{changedAt(&stat), stat.Ino}}, nil
}

// move renames without replacing anything.
func move(from, to int, name string) error {
	err := unix.Renameat2(from, name, to, name, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS && err != unix.EPERM {
		return err
	}
	// Neither every file system nor every seccomp profile knows that.
	var stat unix.Stat_t
	if err := unix.Fstatat(to, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return unix.EEXIST
	}
	return unix.Renameat(from, name, to, name)
}
