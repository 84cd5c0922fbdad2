package tunnel

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"brig/nodeagent/record"
)

// TestSlowLoris: clients that send a byte of their hello now and then are cut off when
// the handshake's time is over, however busy they are; others are served meanwhile, and
// the sandbox hears of none of them.
func TestSlowLoris(t *testing.T) {
	t.Parallel()
	var heard atomic.Int32
	address, authority := open(t, Config{Kind: record.TLS, Dial: service(t, func(conn *net.TCPConn) { heard.Add(1); reverse(conn) })})
	const clients = 64
	ended := make(chan time.Duration, clients)
	began := time.Now()
	for range clients {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() { // the beginning of a record of 16 KiB, for ever
			for _, err := conn.Write([]byte{22, 3, 1, 0x40, 0}); err == nil; _, err = conn.Write([]byte{1}) {
				time.Sleep(200 * time.Millisecond)
			}
		}()
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			ended <- time.Since(began)
		}()
	}
	conn, err := dialTLS(t, address, authority)
	if err != nil {
		t.Fatalf("an honest client beside them: %v", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("ab")); err != nil || conn.CloseWrite() != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "ba" {
		t.Errorf("an honest client beside them read %q, %v", got, err)
	}
	for range clients {
		select {
		case took := <-ended:
			if took < handshakeTimeout/2 {
				t.Errorf("one was cut off after %v already", took)
			}
		case <-time.After(3 * handshakeTimeout):
			t.Fatal("one of them is still connected")
		}
	}
	if n := heard.Load(); n != 1 {
		t.Errorf("the sandbox heard of %d clients, not of the honest one alone", n)
	}
}
