// Package tunnel leads connections from a port of the node to a port of a sandbox.
// A Tunnel listens, ends TLS if its kind says so, and copies bytes both ways; each
// direction ends on its own, so a half-closed connection stays half open, and a reset
// goes through. One that ends TLS can be reached by its name, too, through the port
// that a Shared leads by the names that clients show. It knows nothing of sandboxes:
// it is given the function that dials.
//
// A client gets its turn only after the source list, the limits and, for TLS, the
// handshake's time limit: a client that trickles its hello costs one slot for a few
// seconds and never a dial. A connection that waits has two descriptors and no buffer;
// only while bytes are under way is there a pipe, or a buffer, for them.
//
// Everything here is safe for concurrent use.
package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"brig/nodeagent/record"
)

const (
	handshakeTimeout = 10 * time.Second
	dialTimeout      = 10 * time.Second
)

// Config of a tunnel. Listen, Admits, Dial, Share and Log are needed, Certificate for
// kinds that end TLS.
type Config struct {
	Kind   record.Kind
	Listen netip.AddrPort
	// Host is the name or address that clients are told, Name another name of this
	// tunnel alone; empty: it has none. Both in lower case. TLS is ended for these two, and
	// Host's certificate is also for those who name nobody.
	Host, Name string
	// Certificate for a host. Without an error and without one the handshake is refused.
	Certificate func(hello *tls.ClientHelloInfo, host string) (*tls.Certificate, error)
	// Admits tells whether a source may connect. It is asked anew for every connection,
	// and by Rejudge.
	Admits func(netip.Addr) bool
	// Dial connects to the sandbox's port, by TCP.
	Dial func(ctx context.Context) (net.Conn, error)
	// Begin, if set, is called when a connection leads to the sandbox, and end when it
	// does not any more.
	Begin func() (end func())
	// Share is the part of the node's limits that connections count against.
	Share *Share
	Log   *slog.Logger
}

// Tunnel is open until Close.
type Tunnel struct {
	cfg      Config
	listener *net.TCPListener
	// front begins handshakes, tls goes on with those that are meant for the tunnel. Both
	// are nil for raw TCP.
	front, tls *tls.Config
	traffic    traffic

	// Of the limits; guarded by the pool's mu.
	sources sources
	taken   int

	// ctx ends when connections are to be cut; not a request's.
	ctx context.Context
	cut context.CancelFunc
	wg  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool       // nobody comes in any more
	open   map[*net.TCPConn]bool
}

// Open listens.
func Open(cfg Config) (*Tunnel, error) {
	t := &Tunnel{cfg: cfg, sources: sources{}, open: map[*net.TCPConn]bool{}}
	if cfg.Kind != record.TCP {
		t.front, t.tls = t.frontTLS(), t.serverTLS()
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(cfg.Listen))
	if err != nil {
		return nil, fmt.Errorf("listen for a tunnel: %w", err)
	}
	t.listener = l
	t.ctx, t.cut = context.WithCancel(context.Background())
	t.wg.Go(t.accept)
	return t, nil
}

// Close stops listening, gives open connections until drain to end by themselves,
// then cuts them, and returns when none is left.
func (t *Tunnel) Close(drain time.Duration) {
	t.listener.Close() // its only error is that it is closed
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	timer := time.AfterFunc(drain, t.cut)
	t.wg.Wait()
	timer.Stop()
	t.cut()
}

// Counters are the connections that are open, and the bytes that came in and went out
// since Open. TLS is not counted.
func (t *Tunnel) Counters() (connections int, in, out uint64) {
	// Those that were let in: what is known includes who is about to be refused.
	connections = t.cfg.Share.count(&t.taken)
	in, out = t.traffic.bytes()
	return connections, in, out
}

func (t *Tunnel) accept() {
	accept(t.ctx, t.listener, t.cfg.Log, func(conn *net.TCPConn) {
		leave, ok := t.admit(conn)
		if !ok {
			reset(conn)
			return
		}
		go func() {
			defer leave()
			t.serve(conn)
		}()
	})
}

// accept hands over connections until l is closed or, when something fails, ctx ends.
func accept(ctx context.Context, l *net.TCPListener, log *slog.Logger, serve func(*net.TCPConn)) {
	failing := false
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			failing = false
			serve(conn)
			continue
		}
		// Out of descriptors, say. What is open must go on, so wait, do not end.
		if !failing {
			log.Warn("accept for a tunnel", "err", err)
		}
		failing = true
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}
