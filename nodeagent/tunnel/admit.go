package tunnel

import (
	"net"
	"net/netip"
)

// admit tells whether conn may go on; then leave is called once, after conn's end.
func (t *Tunnel) admit(conn *net.TCPConn) (leave func(), ok bool) {
	// Known before it is judged: a Rejudge between the two would miss it.
	if !t.know(conn) {
		return nil, false
	}
	source := sourceOf(conn)
	if !t.cfg.Admits(source) {
		t.forget(conn)
		return nil, false
	}
	who := counted(source)
	if err := t.cfg.Share.take(t.sources, &t.taken, who); err != nil {
		t.cfg.Log.Debug("refuse a tunnel's client", "source", source, "err", err)
		t.forget(conn)
		return nil, false
	}
	return func() {
		t.cfg.Share.give(t.sources, &t.taken, who)
		t.forget(conn)
	}, true
}

// know conn, for which Close waits until forget.
func (t *Tunnel) know(conn *net.TCPConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.open[conn] = true
	t.wg.Add(1)
	return true
}

func (t *Tunnel) forget(conn *net.TCPConn) {
	t.mu.Lock()
	delete(t.open, conn)
	t.mu.Unlock()
	t.wg.Done()
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
		if !t.cfg.Admits(sourceOf(conn)) {
			reset(conn)
		}
	}
}

func sourceOf(conn *net.TCPConn) netip.Addr {
	return conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// reset ends a connection so that the peer sees an error, not an end of data.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
