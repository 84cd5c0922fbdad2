package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"brig/tests/node"
)

// TestTunnelLimits: beyond a tunnel's limits clients are reset: one source's, and all of
// them; others are served, and brigd has no more descriptors than the limits say.
func TestTunnelLimits(t *testing.T) {
	t.Parallel()
	n := launch(t, node.Options{Overrides: "[tunnels.limits]\nper_tunnel = 60\nper_source = 20\n"})
	id := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	other := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	at, beside := tunnels(t, n.Node, id)[0].addr(), tunnels(t, n.Node, other)[0].addr()
	served(t, n, id, 7)
	calm := dialEcho(t, beside, nil)
	before := descriptors(t, n.PID())
	open := 0
	for _, tc := range []struct {
		from        string
		tries, want int
	}{{"127.0.0.2", 25, 20}, {"127.0.0.3", 25, 20}, {"127.0.0.4", 25, 20}, {"127.0.0.5", 5, 0}} {
		got := 0
		for range tc.tries {
			if conn, err := dialSource(t.Context(), tc.from, at); err == nil && ping(conn) == nil {
				got++
			}
		}
		open += got
		if got != tc.want {
			t.Errorf("%s has %d connections, want %d", tc.from, got, tc.want)
		}
	}
	if err := ping(calm); err != nil {
		t.Errorf("another sandbox's client: %v", err)
	}
	if now := descriptors(t, n.PID()); now-before > 2*open+20 {
		t.Errorf("brigd has %d descriptors, %d before %d connections", now, before, open)
	}
}

// storm is how many clients come at once.
const storm = 10_000

// TestTunnelStorm: ten thousand clients of one tunnel take neither the descriptors nor the
// time of others, and leave nothing.
func TestTunnelStorm(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Cur < storm+2000 {
		t.Fatalf("this process may have %d files open: ulimit -n %d", files.Cur, storm+2000)
	}
	n := use(t)
	id := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	other := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	at, beside := tunnels(t, n.Node, id)[0].addr(), tunnels(t, n.Node, other)[0].addr()
	served(t, n, id, 7)
	calm := dialEcho(t, beside, nil)
	before := descriptors(t, n.PID())
	var mu sync.Mutex
	var conns []net.Conn
	var most atomic.Int64
	var wg sync.WaitGroup
	for worker := range 50 {
		wg.Go(func() {
			for i := range storm / 50 {
				conn, err := dialSource(t.Context(), fmt.Sprintf("127.0.1.%d", worker+1), at)
				if err == nil {
					mu.Lock()
					conns = append(conns, conn)
					mu.Unlock()
				}
				if worker == 0 && i%20 == 0 {
					most.Store(max(most.Load(), int64(descriptors(t, n.PID()))))
				}
			}
		})
	}
	pinged := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		var err error
		for err == nil {
			select {
			case <-done:
				pinged <- nil
				return
			default:
				err = ping(calm)
			}
		}
		pinged <- err
	}()
	wg.Wait()
	dialEcho(t, beside, nil).Close()
	close(done)
	if err := <-pinged; err != nil {
		t.Errorf("another sandbox's client meanwhile: %v", err)
	}
	if got := counters(t, n, id, 7); got.Connections > 1024 {
		t.Errorf("the tunnel has %d connections", got.Connections)
	}
	if most.Load() > int64(before)+2*1024+400 {
		t.Errorf("brigd had %d descriptors, %d before", most.Load(), before)
	}
	for _, conn := range conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	eventually(t, 10*time.Second, func() error {
		if now := descriptors(t, n.PID()); now > before+40 {
			return fmt.Errorf("brigd has %d descriptors, %d before", now, before)
		}
		return nil
	})
	dialEcho(t, at, nil)
}

// TestTunnelCounters: what is tunnelCount is what was sent, and connections while they are
// open.
func TestTunnelCounters(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--no-egress", "--port", "7/tcp", "--port", "8", n.python, "--", "python3", "-c", echo)
	for _, tun := range tunnels(t, n.Node, id) {
		var secure *tls.Config
		if tun.Kind == "tls" {
			secure = &tls.Config{RootCAs: trust(t, n.Node)}
		}
		conn := dialEcho(t, tun.addr(), secure)
		before := counters(t, n, id, tun.SandboxPort)
		const size = 3<<20 + 7
		data := make([]byte, size)
		_, _ = rand.Read(data)
		go func() { _, _ = conn.Write(data) }()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(conn, make([]byte, size)); err != nil {
			t.Fatalf("%s: %v", tun.Kind, err)
		}
		if now := counters(t, n, id, tun.SandboxPort); now.BytesIn-before.BytesIn != size || now.BytesOut-before.BytesOut != size || now.Connections != 1 {
			t.Errorf("%s: %+v, was %+v; want %d more each way, and a connection", tun.Kind, now, before, size)
		}
		conn.Close()
		eventually(t, 10*time.Second, func() error {
			if now := counters(t, n, id, tun.SandboxPort); now.Connections != 0 {
				return fmt.Errorf("%+v", now)
			}
			return nil
		})
	}
}

// TestTunnelReset: a reset passes, both ways.
func TestTunnelReset(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", resetter)
	at := tunnels(t, n.Node, id)[0].addr()
	dial := func() net.Conn {
		var conn net.Conn
		eventually(t, 20*time.Second, func() (err error) {
			if conn, err = dialSource(t.Context(), "127.0.0.1", at); err != nil {
				return err
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, err = io.ReadFull(conn, make([]byte, 1))
			return err
		})
		return conn
	}
	conn := dial()
	if _, err := conn.Write([]byte("r")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the sandbox resets and the client hears %v", err)
	}
	conn = dial()
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	eventually(t, 10*time.Second, func() error {
		if logs := n.Brig(t, "logs", id); logs != "reset by its peer\n" {
			return fmt.Errorf("the client resets and the sandbox says %q", logs)
		}
		return nil
	})
}

// resetter greets with a byte, and resets whoever sends one.
const resetter = `
import socket, struct, threading
s = socket.create_server(("0.0.0.0", 7))
def serve(c):
    try:
        c.sendall(b"x")
        if c.recv(1):
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except ConnectionResetError:
        print("reset by its peer", flush=True)
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],)).start()
`

// tunnelCount is the part of a tunnel under --json that changes.
type tunnelCount struct {
	SandboxPort int `json:"sandbox_port"`
	Port        int
	Connections int
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
	Fault       string
}

func counters(t *testing.T, n *fixture, id string, port int) tunnelCount {
	t.Helper()
	var list []tunnelCount
	if err := json.Unmarshal([]byte(n.Brig(t, "tunnels", "--json", id)), &list); err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.SandboxPort == port {
			return c
		}
	}
	t.Fatalf("no tunnel to port %d: %+v", port, list)
	return tunnelCount{}
}

// served returns when the raw tunnel has led a client to the program and back, and
// nobody is connected.
func served(t *testing.T, n *fixture, id string, port int) {
	t.Helper()
	for _, tun := range tunnels(t, n.Node, id) {
		if tun.SandboxPort == port {
			dialEcho(t, tun.addr(), nil).Close()
		}
	}
	eventually(t, 10*time.Second, func() error {
		if c := counters(t, n, id, port); c.Connections != 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

func dialSource(ctx context.Context, from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	return d.DialContext(ctx, "tcp4", to)
}

// descriptors that a process has.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(filepath.Join("/proc", itoa(pid), "fd"))
	if err != nil {
		t.Error(err)
	}
	return len(list)
}
