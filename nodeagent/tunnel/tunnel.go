// Package tunnel leads connections from a port of the node to a port of a sandbox.
// A Tunnel listens, ends TLS if its kind says so, and copies bytes both ways; each
// direction ends on its own, so a half-closed connection stays half open. It knows
// nothing of sandboxes: it is given the function that dials.
//
// A client gets its turn only after the source list, the connection limit and, for
// TLS, the handshake's time limit: a client that trickles its hello costs one slot
// for a few seconds and never a dial.
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

// The limits of one tunnel.
const (
	maxConnections   = 1024
	handshakeTimeout = 10 * time.Second
	dialTimeout      = 10 * time.Second
)

// Config of a tunnel.
type Config struct {
	Kind   record.Kind
	Listen netip.AddrPort
	// Admits tells whether a source may connect. It is asked anew for every connection,
	// and by Rejudge.
	Admits func(netip.Addr) bool
	// Dial connects to the sandbox's port. The connection can be half-closed.
	Dial func(ctx context.Context) (net.Conn, error)
	// Certificate is asked for at open and again before it runs out.
	Certificate func() (*tls.Certificate, error)
	Log         *slog.Logger
}

// Tunnel is open until Close.
type Tunnel struct {
	cfg      Config
	listener *net.TCPListener
	tls      *tls.Config
	slots    chan struct{}

	// ctx ends when connections are to be cut; not a request's.
	ctx context.Context
	cut context.CancelFunc
	wg  sync.WaitGroup

	mu   sync.Mutex // guards what follows
	open map[*net.TCPConn]bool
}

// Open listens.
func Open(cfg Config) (*Tunnel, error) {
	t := &Tunnel{cfg: cfg, slots: make(chan struct{}, maxConnections), open: map[*net.TCPConn]bool{}}
	if cfg.Kind != record.TCP {
		config, err := serverTLS(cfg.Kind, cfg.Certificate)
		if err != nil {
			return nil, err
		}
		t.tls = config
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
	timer := time.AfterFunc(drain, t.cut)
	t.wg.Wait()
	timer.Stop()
	t.cut()
}

func (t *Tunnel) accept() {
	for {
		conn, err := t.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, say. What is open must go on, so wait, do not end.
			t.cfg.Log.Warn("accept for a tunnel", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.ctx.Done():
				return
			}
			continue
		}
		t.admit(conn)
	}
}

// Rejudge resets the connections whose source is not admitted any more.
func (t *Tunnel) Rejudge() {
	t.mu.Lock()
	var open []*net.TCPConn
	for conn := range t.open {
		open = append(open, conn)
	}
	t.mu.Unlock()
	for _, conn := range open {
		if !t.mayConnect(conn) {
			reset(conn)
		}
	}
}

// admit hands conn to a goroutine of its own, or resets it.
func (t *Tunnel) admit(conn *net.TCPConn) {
	// Known before it is judged: a Rejudge between the two would miss it.
	t.know(conn, true)
	if !t.mayConnect(conn) {
		t.know(conn, false)
		reset(conn)
		return
	}
	select {
	case t.slots <- struct{}{}:
	default:
		t.know(conn, false)
		reset(conn)
		return
	}
	t.wg.Go(func() {
		defer func() { <-t.slots }()
		defer t.know(conn, false)
		t.serve(conn)
	})
}

func (t *Tunnel) know(conn *net.TCPConn, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if open {
		t.open[conn] = true
	} else {
		delete(t.open, conn)
	}
}

func (t *Tunnel) mayConnect(conn *net.TCPConn) bool {
	return t.cfg.Admits(conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
}

// reset ends a connection so that the peer sees an error, not an end of data.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
