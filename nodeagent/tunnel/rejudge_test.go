package tunnel

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"brig/nodeagent/record"
)

// Connections of sources that are not admitted any more are reset; others go on.
func TestRejudge(t *testing.T) {
	var refused atomic.Pointer[netip.Addr]
	tunnel, address := openWith(t, Config{
		Kind:   record.TCP,
		Dial:   service(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn); conn.Close() }),
		Admits: func(a netip.Addr) bool { r := refused.Load(); return r == nil || *r != a },
	})
	try := func(from string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { conn.Close() })
		return conn, conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	dial := func(from string) net.Conn {
		t.Helper()
		conn, err := try(from)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	echo := func(conn net.Conn) error {
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, make([]byte, 1))
		return err
	}
	one, two := dial("127.0.0.1"), dial("127.0.0.2")
	for _, conn := range []net.Conn{one, two} {
		if err := echo(conn); err != nil {
			t.Fatal(err)
		}
	}
	tunnel.Rejudge()
	gone := netip.MustParseAddr("127.0.0.2")
	refused.Store(&gone)
	tunnel.Rejudge()
	if err := echo(one); err != nil {
		t.Errorf("a connection that is admitted: %v", err)
	}
	if err := echo(two); err == nil {
		t.Error("a connection that is not admitted goes on")
	}
	if conn, err := try("127.0.0.2"); err == nil && echo(conn) == nil { // the reset may be faster than the dial
		t.Error("a new one is admitted")
	}
	one.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		tunnel.mu.Lock()
		left := len(tunnel.open)
		tunnel.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are remembered", left)
		}
	}
}
