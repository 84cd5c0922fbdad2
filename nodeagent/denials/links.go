package denials

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxCached names of links are remembered; then all are asked for again.
const maxCached = 16384

// links finds the name of a link by its index, which no later link of the namespace
// gets. One goroutine uses it.
type links struct {
	handle *netlink.Handle
	names  map[uint32]string
}

// open connects to the calling thread's network namespace.
func (l *links) open() error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a socket to look at links: %w", err)
	}
	l.handle, l.names = handle, map[uint32]string{}
	return nil
}

func (l *links) close() { l.handle.Close() }

// name is empty for a link that is gone.
func (l *links) name(index uint32) string {
	if index == 0 {
		return ""
	}
	if name, ok := l.names[index]; ok {
		return name
	}
	if len(l.names) >= maxCached {
		clear(l.names)
	}
	name := ""
	if link, err := l.handle.LinkByIndex(int(index)); err == nil {
		name = link.Attrs().Name
	}
	l.names[index] = name // also that it is gone: many packets of it may be on their way
	return name
}
