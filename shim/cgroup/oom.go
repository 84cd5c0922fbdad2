package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WatchOOM calls each, after every time that the kernel has killed something of the group
// for want of memory, with the number of kills so far. It returns when done is closed or
// the group is gone, which are no errors.
func (g Group) WatchOOM(done <-chan struct{}, each func(kills int)) error {
	f, err := g.oomEvents()
	if err != nil {
		return fmt.Errorf("watch for OOM kills: %w", err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-done:
		case <-ended:
		}
		f.Close() // and a read returns
	}()
	last, _ := g.OOMKills()
	for event := make([]byte, 4096); ; {
		if _, err := f.Read(event); err != nil {
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return fmt.Errorf("watch for OOM kills: %w", err)
		}
		// An event may also be one of another kind, or the group's end.
		kills, err := g.OOMKills()
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err == nil && kills > last {
			last = kills
			each(kills)
		}
	}
}

// oomEvents is a file that can be read whenever something may have happened.
func (g Group) oomEvents() (*os.File, error) {
	if g.Unified() {
		return inotify(filepath.Join(g.unified, "memory.events"))
	}
	control, err := g.path("memory.oom_control")
	if err != nil {
		return nil, err
	}
	c, err := os.Open(control)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "eventfd")
	registration := fmt.Sprintf("%d %d", fd, c.Fd())
	if err := os.WriteFile(filepath.Join(filepath.Dir(control), "cgroup.event_control"), []byte(registration), 0); err != nil {
		return nil, errors.Join(err, events.Close())
	}
	return events, nil
}

func inotify(path string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		return nil, errors.Join(&os.PathError{Op: "watch", Path: path, Err: err}, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}
