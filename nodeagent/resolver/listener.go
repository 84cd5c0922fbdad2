package resolver

import (
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The limits of connections, which cost a descriptor and a goroutine before the first
// question comes.
const (
	maxConnections = 1024 // of all sandboxes
	maxConnsOfOne  = 16   // of one
)

// bounded is a listener that resets the connections beyond its gate.
type bounded struct {
	net.Listener
	gate *gate
}

// Accept returns the next connection that is admitted.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := addrOf(conn.RemoteAddr())
		if b.gate.enter(source) {
			return &admitted{Conn: conn, leave: sync.OnceFunc(func() { b.gate.leave(source) })}, nil
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// admitted gives its place back once it is closed.
type admitted struct {
	net.Conn
	leave func()
}

// Close is the connection's.
func (a *admitted) Close() error {
	defer a.leave()
	return a.Conn.Close()
}

// packetRoom is what of questions by UDP the kernel keeps until they are read: all
// sandboxes share it, and a burst of one would push out the others'.
const packetRoom = 4 << 20 // bytes

// makeRoom asks for more than the system's limit, as root may, or else for what that
// allows. With less it works as well, and clients ask again more often.
func makeRoom(packets net.PacketConn) {
	conn, ok := packets.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, packetRoom) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, packetRoom)
		}
	})
}
