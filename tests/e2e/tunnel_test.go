package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"brig/tests/node"
)

// tunnel is an element of `brig tunnels --json`.
type tunnel struct {
	SandboxPort int    `json:"sandbox_port"`
	Kind        string `json:"kind"`
	Host        string `json:"host"`
	Port        int    `json:"port"`
	URL         string `json:"url"`
}

func (t tunnel) addr() string { return fmt.Sprintf("%s:%d", t.Host, t.Port) }

func tunnels(t *testing.T, n *node.Node, id string) []tunnel {
	t.Helper()
	var list []tunnel
	if err := json.Unmarshal([]byte(n.Brig(t, "tunnels", "--json", id)), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// trust is the pool with the node's CA alone.
func trust(t *testing.T, n *node.Node) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(strings.TrimSpace(n.Brig(t, "node", "ca")))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate: %q", pem)
	}
	return pool
}

// fetch gets a page through a TLS tunnel, once the program in the sandbox listens.
func fetch(t *testing.T, n *node.Node, url string) string {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust(t, n)}}
	defer transport.CloseIdleConnections()
	hc := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	var page string
	eventually(t, 20*time.Second, func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/", nil)
		if err != nil {
			return err
		}
		res, err := hc.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %q", res.Status, body)
		}
		page = string(body)
		return nil
	})
	return page
}

// echo is a server on ports 7 to 9 that sends back what it read and closes when
// its peer has said all, so it ends well only if half-closes pass the tunnel.
const echo = `
import socketserver, threading
class H(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            b = self.request.recv(1 << 16)
            if not b: break
            self.request.sendall(b)
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
servers = [S(("0.0.0.0", port), H) for port in (7, 8, 9)]
print("up", flush=True)
for s in servers[1:]:
    threading.Thread(target=s.serve_forever).start()
servers[0].serve_forever()
`

func dialEcho(t *testing.T, addr string, secure *tls.Config) net.Conn {
	t.Helper()
	var conn net.Conn
	eventually(t, 20*time.Second, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if secure != nil {
			d := tls.Dialer{Config: secure}
			conn, err = d.DialContext(ctx, "tcp4", addr)
		} else {
			var d net.Dialer
			conn, err = d.DialContext(ctx, "tcp4", addr)
		}
		if err != nil {
			return err
		}
		if err := ping(conn); err != nil {
			return errors.Join(err, conn.Close())
		}
		return nil
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ping sends a word and reads it back.
func ping(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "ping"); err != nil {
		return err
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != "ping" {
		return fmt.Errorf("echo of ping is %q", got)
	}
	return conn.SetDeadline(time.Time{})
}

// TestTunnelKinds opens every kind; a port has one at a time.
func TestTunnelKinds(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	raw := tunnels(t, n.Node, id)[0]
	if raw.Kind != "tcp" || raw.URL != fmt.Sprintf("tcp://%s", raw.addr()) {
		t.Errorf("raw tunnel: %+v", raw)
	}
	dialEcho(t, raw.addr(), nil)

	n.Brig(t, "tunnel", "open", id, "8")
	n.Brig(t, "tunnel", "open", id, "9/h2")
	if r := n.Try(t, "tunnel", "open", id, "7/h2"); r.Code == 0 || !strings.Contains(r.Stderr, "close") {
		t.Errorf("a second kind for one port: %s", r)
	}
	byKind := map[string]tunnel{}
	for _, tun := range tunnels(t, n.Node, id) {
		byKind[tun.Kind] = tun
	}
	if len(byKind) != 3 {
		t.Fatalf("tunnels: %+v", byKind)
	}
	pool := trust(t, n.Node)
	for _, tc := range []struct {
		kind      string
		offer     []string
		agreed    string
		handshake bool
	}{
		{"tls", []string{"h2", "http/1.1"}, "http/1.1", true},
		{"tls", nil, "", true},
		{"h2", []string{"h2", "http/1.1"}, "h2", true},
		{"h2", []string{"http/1.1"}, "", false},
	} {
		secure := &tls.Config{RootCAs: pool, NextProtos: tc.offer}
		if !tc.handshake {
			d := tls.Dialer{Config: secure}
			if conn, err := d.DialContext(t.Context(), "tcp4", byKind[tc.kind].addr()); err == nil {
				_ = conn.Close()
				t.Errorf("a %s tunnel agrees with a client that offers %v", tc.kind, tc.offer)
			}
			continue
		}
		conn := dialEcho(t, byKind[tc.kind].addr(), secure).(*tls.Conn)
		if state := conn.ConnectionState(); state.NegotiatedProtocol != tc.agreed || state.Version < tls.VersionTLS13 {
			t.Errorf("%s, offered %v: protocol %q, version %x", tc.kind, tc.offer, state.NegotiatedProtocol, state.Version)
		}
	}
	old := &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}
	d := tls.Dialer{Config: old}
	if conn, err := d.DialContext(t.Context(), "tcp4", byKind["tls"].addr()); err == nil {
		_ = conn.Close()
		t.Error("a tunnel speaks TLS 1.2")
	}
}

// TestTunnelIsExact sends 64 MiB both ways through raw and TLS tunnels and closes
// one direction only: every byte comes back, and then the end.
func TestTunnelIsExact(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	n.Brig(t, "tunnel", "open", id, "8")
	data := make([]byte, 64<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	want := sha256.Sum256(data)
	for _, tun := range tunnels(t, n.Node, id) {
		var secure *tls.Config
		if tun.Kind == "tls" {
			secure = &tls.Config{RootCAs: trust(t, n.Node)}
		}
		conn := dialEcho(t, tun.addr(), secure)
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		sent := make(chan error, 1)
		go func() {
			_, err := io.Copy(conn, bytes.NewReader(data))
			sent <- errors.Join(err, conn.(interface{ CloseWrite() error }).CloseWrite())
		}()
		got := sha256.New()
		count, err := io.Copy(got, conn)
		if err := errors.Join(err, <-sent); err != nil {
			t.Errorf("%s: %v", tun.Kind, err)
		}
		if count != int64(len(data)) || !bytes.Equal(got.Sum(nil), want[:]) {
			t.Errorf("%s: %d bytes came back, other than the %d sent", tun.Kind, count, len(data))
		}
	}
}

// TestTunnelClose cuts what was connected and stops to listen.
func TestTunnelClose(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--no-egress", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	first := tunnels(t, n.Node, id)[0]
	conn := dialEcho(t, first.addr(), nil)
	if again := strings.TrimSpace(n.Brig(t, "tunnel", "open", id, "7/tcp")); again != first.URL {
		t.Errorf("the same tunnel opened again is %s, was %s", again, first.URL)
	}
	n.Brig(t, "tunnel", "close", id, "7/tcp")
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection outlives its tunnel")
	}
	var d net.Dialer
	if conn, err := d.DialContext(t.Context(), "tcp4", first.addr()); err == nil {
		_ = conn.Close()
		t.Error("a closed tunnel listens")
	}
	if r := n.Try(t, "tunnel", "close", id, "7/tcp"); r.Code == 0 {
		t.Errorf("closing it again: %s", r)
	}
	if list := tunnels(t, n.Node, id); len(list) != 0 {
		t.Errorf("tunnels: %+v", list)
	}
}

// TestTunnelInbound admits the sources of the list alone.
func TestTunnelInbound(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--inbound-cidr", "203.0.113.0/24", "--port", "7/tcp", n.python, "--", "python3", "-c", echo)
	eventually(t, 20*time.Second, func() error {
		if logs := n.Brig(t, "logs", id); logs != "up\n" {
			return fmt.Errorf("logs: %q", logs)
		}
		return nil
	})
	var d net.Dialer
	for range 5 { // the server may be between its word and its socket
		conn, err := d.DialContext(t.Context(), "tcp4", tunnels(t, n.Node, id)[0].addr())
		if err != nil {
			continue // refused is right, too
		}
		if err := ping(conn); err == nil {
			t.Error("a source that is not on the list reached the sandbox")
		}
		_ = conn.Close()
		time.Sleep(100 * time.Millisecond)
	}
}
