package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"brig/internal/config"
	"brig/nodeagent/tunnel"
	"brig/tests/pebble"
)

// TestACME: a host that is wanted gets a certificate of the authority, which looked at
// the shared port; it is there again after a restart; who is not wanted gets none.
func TestACME(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	l.Close()
	authority := pebble.Start(t, port)
	cfg := config.Defaults()
	cfg.StateDir = t.TempDir()
	cfg.Tunnels.SharedPort = port
	cfg.Tunnels.ACME.Directory = authority.Directory
	cfg.Tunnels.ACME.Root = filepath.Join(cfg.StateDir, "root.pem")
	if err := os.WriteFile(cfg.Tunnels.ACME.Root, authority.Root, 0o600); err != nil {
		t.Fatal(err)
	}

	source, stop := serveACME(t, &cfg)
	if c, err := source.Get(hello("node.example"), "node.example"); c != nil || err != nil {
		t.Errorf("before anybody wanted it: %v, %v", c, err)
	}
	release := source.Want("node.example")
	first := got(t, source, "node.example")
	if _, err := first.Leaf.Verify(x509.VerifyOptions{Roots: authority.Issued, Intermediates: intermediates(t, first), DNSName: "node.example"}); err != nil {
		t.Error(err)
	}
	if len(first.Leaf.DNSNames) != 1 {
		t.Errorf("it is good for %v", first.Leaf.DNSNames)
	}
	for _, name := range []string{"other.example", "127.0.0.1", ""} {
		if c, err := source.Get(hello(name), name); c != nil || err != nil {
			t.Errorf("%q, which nobody wants: %v, %v", name, c, err)
		}
	}
	info, err := os.Stat(filepath.Join(cfg.StateDir, folder))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder: %v, %v", info.Mode(), err)
	}
	release()
	if c, err := source.Get(hello("node.example"), "node.example"); c != nil || err != nil {
		t.Errorf("when nobody wants it any more: %v, %v", c, err)
	}
	stop()

	source, stop = serveACME(t, &cfg)
	defer stop()
	source.Want("node.example")
	if again := got(t, source, "node.example"); again.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Error("after a restart another certificate was asked for")
	}
}

// TestACMEAway: an authority that does not answer keeps nobody waiting.
func TestACMEAway(t *testing.T) {
	cfg := config.Defaults()
	cfg.StateDir = t.TempDir()
	cfg.Tunnels.ACME.Directory = "https://127.0.0.1:1/directory"
	source, stop := serveACME(t, &cfg)
	defer stop()
	release := source.Want("node.example")
	defer release()
	if c, err := source.Get(hello("node.example"), "node.example"); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
}

// serveACME is a source and, if there is one, the shared port that it answers at.
func serveACME(t *testing.T, cfg *config.Config) (Source, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log := slog.New(slog.DiscardHandler)
	source, err := Open(ctx, cfg, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(cfg.Tunnels.Bind), cfg.Tunnels.SharedPort)
	limits := tunnel.Limits{Node: 100, Sandbox: 100, Tunnel: 100, Source: 100}
	shared := tunnel.NewShared(at, limits, source.Challenge, log)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if cfg.Tunnels.SharedPort != 0 {
			shared.Keep(ctx)
		}
	}()
	return source, func() { cancel(); <-done; ended(t) }
}

// ended waits until nobody works for a source any more: certmagic goes on for a moment when
// its context has ended, tells nobody, and would make files in a folder that was removed.
func ended(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		working := workers()
		if len(working) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("somebody goes on:\n%s", strings.Join(working, "\n\n"))
		}
	}
}

// workers are the stacks of what works for a source.
func workers() (stacks []string) {
	all := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
		works := strings.Contains(stack, "certmagic.") || strings.Contains(stack, "certificates.(*acme)")
		// The one lasts as long as the process; the other makes no file.
		if works && !strings.Contains(stack, "RateLimiter).loop") && !strings.Contains(stack, "keepLockfileFresh") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// hello has a connection, which certmagic names in what it logs.
func hello(name string) *tls.ClientHelloInfo {
	conn, _ := net.Pipe()
	return &tls.ClientHelloInfo{ServerName: name, Conn: conn}
}

// got waits for a certificate.
func got(t *testing.T, source Source, host string) *tls.Certificate {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := source.Get(hello(host), host)
		if err != nil {
			t.Fatal(err)
		}
		if c != nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal("no certificate within a minute")
		}
	}
}

func intermediates(t *testing.T, c *tls.Certificate) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		pool.AddCert(one)
	}
	return pool
}
