package tunnel

import (
	"context"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"brig/nodeagent/record"
)

// TestHasten: what goes to the sandbox is not paced, whatever the node's congestion
// control is; nor is what goes to a client that is here.
func TestHasten(t *testing.T) {
	dialled := make(chan *net.TCPConn, 1)
	dial := service(t, func(sandbox *net.TCPConn) { _, _ = io.Copy(sandbox, sandbox) })
	tunnel, address := openWith(t, Config{Kind: record.TCP, Dial: func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if err == nil {
			dialled <- conn.(*net.TCPConn)
		}
		return conn, err
	}})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ends := []*net.TCPConn{<-dialled}
	tunnel.mu.Lock()
	for accepted := range tunnel.open {
		ends = append(ends, accepted)
	}
	tunnel.mu.Unlock()
	if len(ends) != 2 {
		t.Fatalf("%d ends of a connection", len(ends))
	}
	for _, end := range ends {
		if got := congestion(t, end); got != unpaced {
			t.Errorf("to %s: congestion control %q; want %q", end.RemoteAddr(), got, unpaced)
		}
	}
}

func congestion(t *testing.T, conn *net.TCPConn) (name string) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	failed := raw.Control(func(fd uintptr) { name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION) })
	if failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	return name
}
