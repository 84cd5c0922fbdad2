package resolver

import (
	"net"
	"sync"
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
