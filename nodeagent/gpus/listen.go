package gpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// listen has the kernel tell of devices and modules that come and go: a signal for any
// number of events. Which they are does not matter, since a glance decides. Where the
// kernel tells nobody, in some containers, the glance every few seconds is all there is.
//
// inotify on /dev is the alternative that was refused: device nodes of NVIDIA's outlive the
// module that they belong to, so that a driver's upgrade does not touch them.
func (n *Node) listen(ctx context.Context) <-chan struct{} {
	told := make(chan struct{}, 1)
	socket, err := openEvents()
	if err != nil {
		n.log.Info("the kernel does not tell of devices; brigd looks every few seconds", "err", err)
		return told
	}
	context.AfterFunc(ctx, func() { _ = socket.Close() })
	go func() {
		buffer := make([]byte, 16<<10)
		for ctx.Err() == nil {
			size, err := socket.Read(buffer)
			lost := errors.Is(err, unix.ENOBUFS) // which is news, too: there were more than fit
			if err != nil && !lost {
				return
			}
			if !lost && !concerns(buffer[:size]) {
				continue
			}
			select {
			case told <- struct{}{}:
			default:
			}
		}
	}()
	return told
}

// concerns tells whether an event may be about a GPU or its driver. Links of sandboxes come
// and go by the thousand.
func concerns(event []byte) bool {
	for field := range bytes.SplitSeq(event, []byte{0}) {
		if subsystem, ok := bytes.CutPrefix(field, []byte("SUBSYSTEM=")); ok {
			return slices.Contains([]string{"module", "drivers", "pci", "drm"}, string(subsystem)) || bytes.HasPrefix(subsystem, []byte("nvidia"))
		}
	}
	return true // of a form that is not known
}

// kernelEvents is the group of what the kernel itself sends; udev's own is another.
const kernelEvents = 1

func openEvents() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open a socket for the kernel's events: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelEvents}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen to the kernel's events: %w", err)
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}
