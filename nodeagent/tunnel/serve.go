package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"

	"brig/nodeagent/record"
)

// halfCloser is a connection whose writing side can end alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// serve owns conn.
func (t *Tunnel) serve(conn *net.TCPConn) {
	// Cutting interrupts whatever serve is at: handshake, dial or copy.
	stop := context.AfterFunc(t.ctx, func() { reset(conn) })
	defer stop()
	client, err := t.handshake(conn)
	if err != nil {
		t.cfg.Log.Debug("tunnel handshake", "err", err)
		reset(conn)
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, dialTimeout)
	upstream, err := t.cfg.Dial(ctx)
	cancel()
	if err != nil {
		t.cfg.Log.Debug("tunnel dial", "err", err)
		reset(conn)
		return
	}
	sandbox, ok := upstream.(halfCloser)
	if !ok {
		t.cfg.Log.Error("tunnel dial", "err", fmt.Errorf("%T cannot be half-closed", upstream))
		_ = upstream.Close()
		reset(conn)
		return
	}
	stopUpstream := context.AfterFunc(t.ctx, func() { _ = sandbox.Close() })
	defer stopUpstream()
	join(conn, client, sandbox)
}

func (t *Tunnel) handshake(conn *net.TCPConn) (halfCloser, error) {
	if t.tls == nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(t.ctx, handshakeTimeout)
	defer cancel()
	c := tls.Server(conn, t.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if p := c.ConnectionState().NegotiatedProtocol; t.cfg.Kind == record.H2 && p != "h2" {
		return nil, fmt.Errorf("the client did not ask for h2 but %q", p)
	}
	return c, nil
}

// join copies both ways until both have ended. A direction that breaks takes the
// other with it: its bytes would have nowhere to be answered.
func join(conn *net.TCPConn, client, sandbox halfCloser) {
	var wg sync.WaitGroup
	pump := func(to, from halfCloser) {
		if _, err := io.Copy(to, from); err != nil || to.CloseWrite() != nil {
			reset(conn)
			if tcp, ok := sandbox.(*net.TCPConn); ok {
				reset(tcp)
			}
			_ = sandbox.Close()
		}
	}
	wg.Go(func() { pump(sandbox, client) })
	wg.Go(func() { pump(client, sandbox) })
	wg.Wait()
	_ = client.Close()
	_ = sandbox.Close()
}
