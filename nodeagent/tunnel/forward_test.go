package tunnel

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"brig/nodeagent/record"
)

// TestBytes: whatever the sizes of writes and the speed of readers, with pipes and
// without any, the bytes that come out are those that went in, and are counted.
func TestBytes(t *testing.T) {
	const size = 24 << 20
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(data)
	for _, tc := range []struct {
		name   string
		kind   record.Kind
		noPipe bool
	}{{"raw", record.TCP, false}, {"raw, no pipe left", record.TCP, true}, {"tls", record.TLS, false}} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.noPipe {
				for range maxPipes {
					p, ok := borrow()
					if !ok {
						t.Fatal("somebody else has a pipe")
					}
					defer p.drop()
				}
			}
			share := NewPool(roomy).Share()
			tunnel, conn := connected(t, tc.kind, share, func(sandbox *net.TCPConn) {
				defer sandbox.Close()
				_, _ = io.Copy(sandbox, sandbox)
			})
			go func() {
				for b, n := data, 1; len(b) > 0; n = n*7%100_003 + 1 {
					n := min(n, len(b))
					if _, err := conn.Write(b[:n]); err != nil {
						return
					}
					b = b[n:]
				}
				_ = conn.(interface{ CloseWrite() error }).CloseWrite()
			}()
			got, err := io.ReadAll(conn)
			if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
				t.Errorf("%d bytes, %v; want the %d that were sent", len(got), err, size)
			}
			conn.Close()
			await(t, "the connection's end", func() bool { n, _, _ := tunnel.Counters(); return n == 0 })
			_, in, out := tunnel.Counters()
			if in != size || out != size {
				t.Errorf("counted %d in, %d out; want %d", in, out, size)
			}
			tunnel.Close(0)
			if in, out := share.Bytes(); in != size || out != size {
				t.Errorf("of the sandbox: %d in, %d out; want %d, of closed tunnels too", in, out, size)
			}
		})
	}
}

// TestReset: one end's reset is the other's.
func TestReset(t *testing.T) {
	for _, kind := range []record.Kind{record.TCP, record.TLS} {
		t.Run("by the client, "+string(kind), func(t *testing.T) {
			heard := make(chan error, 1)
			_, conn := connected(t, kind, NewPool(roomy).Share(), func(sandbox *net.TCPConn) {
				_, _ = sandbox.Write([]byte("x"))
				_, err := io.Copy(io.Discard, sandbox)
				heard <- err
			})
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			reset(plain(conn))
			if err := <-heard; !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the sandbox heard %v; want a reset", err)
			}
		})
		t.Run("by the sandbox, "+string(kind), func(t *testing.T) {
			_, conn := connected(t, kind, NewPool(roomy).Share(), func(sandbox *net.TCPConn) {
				_, _ = io.ReadFull(sandbox, make([]byte, 1))
				reset(sandbox)
			})
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the client heard %v; want a reset", err)
			}
		})
	}
}

// TestResetOfAStalledSender: a client that fills up a sandbox that does not read, and is
// gone, does not keep its place.
func TestResetOfAStalledSender(t *testing.T) {
	t.Parallel()
	for _, kind := range []record.Kind{record.TCP, record.TLS} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			tunnel, conn := connected(t, kind, NewPool(roomy).Share(), func(sandbox *net.TCPConn) { <-release; sandbox.Close() })
			defer close(release)
			if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			chunk := bytes.Repeat([]byte("x"), 1<<20)
			for err := error(nil); err == nil; {
				_, err = conn.Write(chunk)
			}
			reset(plain(conn))
			await(t, "the end of a connection whose client is gone", func() bool { n, _, _ := tunnel.Counters(); return n == 0 })
		})
	}
}

// connected is a client of a tunnel whose sandbox serves by serve.
func connected(t *testing.T, kind record.Kind, share *Share, serve func(*net.TCPConn)) (*Tunnel, net.Conn) {
	t.Helper()
	leaves, authority := leavesOf(t)
	tunnel, address := openWith(t, Config{Kind: kind, Dial: service(t, serve), Share: share, Certificate: leaves})
	var conn net.Conn
	var err error
	if kind == record.TCP {
		conn, err = net.Dial("tcp", address)
	} else {
		conn, err = dialTLS(t, address, authority)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return tunnel, conn
}

// plain is the connection below TLS.
func plain(conn net.Conn) *net.TCPConn {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	return conn.(*net.TCPConn)
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * stallLook); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for " + what)
		}
	}
}
