package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// serve owns conn, which was admitted.
func (t *Tunnel) serve(conn *net.TCPConn) {
	// Cutting interrupts whatever serve is at: handshake, dial or copy.
	stop := context.AfterFunc(t.ctx, func() { reset(conn) })
	defer stop()
	var secure *tls.Conn
	if t.front != nil {
		secure = tls.Server(conn, t.front)
		if err := shake(t.ctx, secure); err != nil {
			t.cfg.Log.Debug("tunnel handshake", "err", err)
			_ = conn.Close() // no reset: an alert is to arrive
			return
		}
	}
	t.lead(conn, secure)
}

// shake hands within the time for it.
func shake(ctx context.Context, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	return conn.HandshakeContext(ctx)
}

// lead connects to the sandbox and copies until both ends have ended.
func (t *Tunnel) lead(conn *net.TCPConn, secure *tls.Conn) {
	sandbox, err := t.dial()
	if err != nil {
		t.cfg.Log.Debug("tunnel dial", "err", err)
		reset(conn)
		return
	}
	if t.cfg.Begin != nil {
		defer t.cfg.Begin()()
	}
	stop := context.AfterFunc(t.ctx, func() { reset(sandbox) })
	defer stop()
	hasten(sandbox)
	if isNear(conn) {
		hasten(conn)
	}
	t.join(conn, secure, sandbox)
}

func (t *Tunnel) dial() (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, dialTimeout)
	defer cancel()
	conn, err := t.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("%T is no TCP connection", conn)
	}
	return tcp, nil
}

// join copies both ways until both have ended. A direction that breaks takes the
// other with it: its bytes would have nowhere to be answered.
func (t *Tunnel) join(conn *net.TCPConn, secure *tls.Conn, sandbox *net.TCPConn) {
	in := func(n int) { t.traffic.in.Add(uint64(n)); t.cfg.Share.traffic.in.Add(uint64(n)) }
	out := func(n int) { t.traffic.out.Add(uint64(n)); t.cfg.Share.traffic.out.Add(uint64(n)) }
	var wg sync.WaitGroup
	way := func(copied func() error, end func() error) {
		if copied() != nil || end() != nil {
			reset(conn)
			reset(sandbox)
		}
	}
	if secure != nil {
		wg.Go(func() { way(func() error { return decrypt(sandbox, conn, secure, in) }, sandbox.CloseWrite) })
		way(func() error { return encrypt(secure, sandbox, out) }, secure.CloseWrite)
	} else {
		wg.Go(func() { way(func() error { return forward(sandbox, conn, in) }, sandbox.CloseWrite) })
		way(func() error { return forward(conn, sandbox, out) }, conn.CloseWrite)
	}
	wg.Wait()
	_ = conn.Close()
	_ = sandbox.Close()
}
