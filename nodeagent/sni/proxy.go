// Package sni leads the TLS connections of sandboxes to the servers that they name. The
// rule set sends a sandbox's connection to port 443 of an address that is pinned for a
// name here instead; the proxy reads the name in the handshake's first message, and
// connects to an address of that very name if the policy in force lists it. What was
// read is passed on as it came, and then bytes in both directions: nothing is decrypted.
//
// So an address that many names share gives a sandbox only the names of its list. What
// is refused is reset: a handshake without a name, a name that is not listed, an address
// that is not one of the name's, and any address that is private, reserved or the
// node's. Connections that a changed policy does not admit are reset, too.
//
// The name that counts is the one that can be seen. Behind an encrypted ClientHello
// there can be another, and an HTTP request can name a third: the server of the listed
// name decides what it answers to those. Such handshakes are not refused, because
// browsers send decoys of the same form in all others.
//
// The proxy trusts nobody and bounds everything: connections of all and of one sandbox,
// the length of the first message and the time for it, and the time of the dial. A
// connection without traffic holds no buffer. Without the proxy nothing listens, and the
// kernel refuses what it would have been sent.
package sni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"brig/nodeagent/place"
	"brig/nodeagent/resolver"
)

// tlsPort is the one whose connections are sent here.
const tlsPort = 443

// The limits.
const (
	maxConnections = 16384 // of all sandboxes
	maxOfOne       = 1024  // of one
	maxHello       = 16 << 10
	helloTimeout   = 5 * time.Second
	resolveTimeout = 5 * time.Second
	dialTimeout    = 10 * time.Second // for all addresses of a name
	tryTimeout     = 4 * time.Second  // for one
	recheckEvery   = 2 * time.Second
)

// Names tells which addresses a name has.
type Names interface {
	// Addresses of host, wanted first, all of which the sandbox may be led to. It is an
	// error if wanted is not one of them.
	Addresses(ctx context.Context, s resolver.Sandbox, host string, wanted netip.Addr) ([]netip.Addr, error)
}

// Config of a proxy. Denials may be nil, everything else is needed.
type Config struct {
	Policies resolver.Policies
	Names    Names
	// Dial connects from where the node's own programs do. The connection can be
	// half-closed.
	Dial    func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error)
	Denials resolver.Denials
	Log     *slog.Logger
}

// Proxy serves. Safe for concurrent use.
type Proxy struct {
	cfg   Config
	stats counters

	mu   sync.Mutex // guards what follows
	all  int
	one  map[netip.Addr]int // connections by the sandbox's address
	live map[*connection]struct{}
}

// Stats since the proxy was made.
type Stats struct {
	// Connections. Of failed ones the server did not answer, or the client left at once.
	Accepted, Refused, Failed uint64
	Live                      int
	Sent, Received            uint64 // bytes, as the sandboxes see it
}

type counters struct{ accepted, refused, failed, sent, received atomic.Uint64 }

// New returns a Proxy without connections.
func New(cfg Config) *Proxy {
	if cfg.Denials == nil {
		cfg.Denials = resolver.Nobody{}
	}
	return &Proxy{cfg: cfg, one: map[netip.Addr]int{}, live: map[*connection]struct{}{}}
}

// Dial connects from the calling process's network namespace.
func Dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	var d net.Dialer
	return d.DialTCP(ctx, "tcp", netip.AddrPort{}, to)
}

// Stats of now.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Accepted: p.stats.accepted.Load(), Refused: p.stats.refused.Load(), Failed: p.stats.failed.Load(), Live: len(p.live),
		Sent: p.stats.sent.Load(), Received: p.stats.received.Load(),
	}
}

// Place is where the proxy listens: a network namespace that can be made anew.
type Place interface {
	// Identity changes when the place is another one.
	Identity() (string, error)
	Listen(ctx context.Context) (net.Listener, error)
}

// Keep serves in where until ctx ends, and begins anew whenever the place is another
// one or serving broke.
func (p *Proxy) Keep(ctx context.Context, where Place) {
	place.Keep(ctx, where.Identity, func(ctx context.Context) error {
		l, err := where.Listen(ctx)
		if err != nil {
			return err
		}
		return p.Serve(ctx, l)
	}, p.cfg.Log)
}

// Serve accepts on l, which it closes, until ctx ends or the socket breaks; then it
// resets all connections and returns when none is left.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { p.recheckAlways(ctx) })
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), closed(conn))
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("the proxy's socket broke: %w", err)
		}
		if err != nil {
			// Out of descriptors, say. What is open must go on, so wait, do not end.
			p.cfg.Log.Warn("accept for the TLS proxy", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		client, ok := conn.(*net.TCPConn)
		if !ok {
			return errors.Join(fmt.Errorf("%T is not a TCP connection", conn), conn.Close())
		}
		p.stats.accepted.Add(1)
		source := client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !p.enter(source) {
			p.stats.refused.Add(1)
			reset(client)
			continue
		}
		wg.Go(func() {
			defer p.leave(source)
			p.serve(ctx, source, client)
		})
	}
}

func closed(conn net.Conn) error {
	if conn == nil {
		return nil
	}
	return conn.Close()
}

func (p *Proxy) enter(source netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= maxConnections || p.one[source] >= maxOfOne {
		return false
	}
	p.all++
	p.one[source]++
	return true
}

func (p *Proxy) leave(source netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.one[source]--; p.one[source] == 0 {
		delete(p.one, source)
	}
}

// reset ends a connection so that the peer sees an error, not an end of data.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
