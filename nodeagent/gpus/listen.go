package gpus

import (
	"context"
	"fmt"
	"os"

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
			// ENOBUFS is news, too: there were more than fit.
			if _, err := socket.Read(buffer); err != nil && !isOverrun(err) {
				return
			}
			select {
			case told <- struct{}{}:
			default:
			}
		}
	}()
	return told
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
