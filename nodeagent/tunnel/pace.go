package tunnel

import (
	"net"

	"golang.org/x/sys/unix"
)

// unpaced is a congestion control that every kernel has and that sends without a timer.
const unpaced = "reno"

// hasten what is written to a peer on this node, be the node's congestion control what it
// may: between two of its own sockets there is nobody to be fair to, and one that paces,
// as BBR does, sets a timer for each packet. If it fails, conn is only slower.
func hasten(conn *net.TCPConn) {
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, unpaced)
		})
	}
}

// isNear tells whether the client of conn is on this node.
func isNear(conn *net.TCPConn) bool {
	source := sourceOf(conn)
	return source.IsLoopback() || source == conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}
