package tunnel

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"brig/nodeagent/ca"
	"brig/nodeagent/record"
)

// service stands for a sandbox's port: it hands every connection to serve.
func service(t *testing.T, serve func(*net.TCPConn)) func(context.Context) (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn.(*net.TCPConn))
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

// reverse answers once it has seen the end: it needs both directions apart.
func reverse(conn *net.TCPConn) {
	defer conn.Close()
	data, _ := io.ReadAll(conn)
	for i, j := 0, len(data)-1; i < j; i, j = i+1, j-1 {
		data[i], data[j] = data[j], data[i]
	}
	_, _ = conn.Write(data)
}

func open(t *testing.T, cfg Config) (address string, authority *ca.CA) {
	t.Helper()
	authority, err := ca.Open(t.TempDir(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Certificate == nil {
		cfg.Certificate = func(_ *tls.ClientHelloInfo, host string) (*tls.Certificate, error) { return authority.Leaf(host) }
	}
	_, address = openWith(t, cfg)
	return address, authority
}

// roomy are limits that tests do not reach by chance.
var roomy = Limits{Node: 1000, Sandbox: 1000, Tunnel: 1000, Source: 1000}

// openWith opens a tunnel on loopback with what cfg leaves out.
func openWith(t *testing.T, cfg Config) (tunnel *Tunnel, address string) {
	t.Helper()
	cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Host = cmp.Or(cfg.Host, "127.0.0.1")
	cfg.Log = slog.New(slog.DiscardHandler)
	if cfg.Admits == nil {
		cfg.Admits = func(netip.Addr) bool { return true }
	}
	if cfg.Share == nil {
		cfg.Share = NewPool(roomy).Share()
	}
	tunnel, port, err := cfg.Share.pool.OpenRandom(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tunnel.Close(0) })
	return tunnel, netip.AddrPortFrom(cfg.Listen.Addr(), port).String()
}

func dialTLS(t *testing.T, address string, authority *ca.CA, protocols ...string) (*tls.Conn, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM())
	return tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", NextProtos: protocols})
}

func TestHalfClose(t *testing.T) {
	const size = 1 << 20
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	want := bytes.Repeat([]byte("fedcba9876543210"), size/16)
	for _, kind := range []record.Kind{record.TCP, record.TLS} {
		t.Run(string(kind), func(t *testing.T) {
			address, authority := open(t, Config{Kind: kind, Dial: service(t, reverse)})
			var conn interface {
				net.Conn
				CloseWrite() error
			}
			if kind == record.TCP {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				conn = c.(*net.TCPConn)
			} else {
				c, err := dialTLS(t, address, authority)
				if err != nil {
					t.Fatal(err)
				}
				conn = c
			}
			defer conn.Close()
			if _, err := conn.Write(sent); err != nil {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v; want %d, reversed", len(got), err, len(want))
			}
		})
	}
}

// The other way round: the sandbox ends first and still hears.
func TestHalfCloseBySandbox(t *testing.T) {
	heard := make(chan string, 1)
	address, _ := open(t, Config{Kind: record.TCP, Dial: service(t, func(conn *net.TCPConn) {
		defer conn.Close()
		_ = conn.CloseWrite()
		data, _ := io.ReadAll(conn)
		heard <- string(data)
	})})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("read: %v; want EOF", err)
	}
	if _, err := conn.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if got := <-heard; got != "still here" {
		t.Errorf("the sandbox heard %q", got)
	}
}

func TestProtocols(t *testing.T) {
	for _, tc := range []struct {
		kind   record.Kind
		offers []string
		want   string // "" with an error
		fails  bool
	}{
		{record.TLS, nil, "", false},
		{record.TLS, []string{"h2", "http/1.1"}, "http/1.1", false},
		{record.TLS, []string{"h2"}, "", true},
		{record.H2, []string{"h2", "http/1.1"}, "h2", false},
		{record.H2, []string{"http/1.1"}, "", true},
		{record.H2, nil, "", true},
	} {
		address, authority := open(t, Config{Kind: tc.kind, Dial: service(t, reverse)})
		conn, err := dialTLS(t, address, authority, tc.offers...)
		got := ""
		if err == nil {
			got = conn.ConnectionState().NegotiatedProtocol
			// A refusal after the handshake shows at the first exchange.
			_, errWrite := conn.Write([]byte("x"))
			errClose := conn.CloseWrite()
			_, errRead := io.ReadAll(conn)
			err = errors.Join(errWrite, errClose, errRead)
			conn.Close()
		}
		if got != tc.want && !tc.fails || (err != nil) != tc.fails {
			t.Errorf("%s, offered %q: %q, %v; want %q, an error: %v", tc.kind, tc.offers, got, err, tc.want, tc.fails)
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	address, _ := open(t, Config{Kind: record.TLS, Dial: service(t, reverse)})
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestSourceIsRefused(t *testing.T) {
	dialled := false
	address, _ := open(t, Config{
		Kind:   record.TCP,
		Admits: func(a netip.Addr) bool { return a != netip.MustParseAddr("127.0.0.1") },
		Dial:   func(context.Context) (net.Conn, error) { dialled = true; return nil, io.EOF },
	})
	if err := expectReset(address); err != nil {
		t.Error(err)
	}
	if dialled {
		t.Error("the sandbox was dialled for a source that it does not admit")
	}
}

func TestNothingListens(t *testing.T) {
	address, _ := open(t, Config{Kind: record.TCP, Dial: func(context.Context) (net.Conn, error) { return nil, unix.ECONNREFUSED }})
	if err := expectReset(address); err != nil {
		t.Error(err)
	}
}

func expectReset(address string) error {
	conn, err := net.Dial("tcp", address)
	if errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		return errors.Join(errors.New("want a reset"), err)
	}
	return nil
}

func TestCloseCutsConnections(t *testing.T) {
	for _, drain := range []time.Duration{0, 10 * time.Millisecond} {
		tunnel, address := openWith(t, Config{
			Kind: record.TCP,
			Dial: service(t, func(conn *net.TCPConn) { _, _ = conn.Write([]byte("x")) }), // and never ends
		})
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		tunnel.Close(drain)
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("after close with drain %v: %v; want a reset", drain, err)
		}
		if again, err := net.Dial("tcp", address); err == nil {
			again.Close()
			t.Error("a closed tunnel accepts")
		}
	}
}

func TestSamePortAgain(t *testing.T) {
	pool := NewPool(roomy)
	cfg := Config{
		Kind: record.TCP, Listen: netip.MustParseAddrPort("127.0.0.1:0"), Share: pool.Share(),
		Admits: func(netip.Addr) bool { return true }, Log: slog.New(slog.DiscardHandler),
	}
	first, port, err := pool.OpenRandom(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = netip.AddrPortFrom(cfg.Listen.Addr(), port)
	if _, err := Open(cfg); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a port that is taken: %v; want EADDRINUSE", err)
	}
	first.Close(0)
	if pool.Claim(port) {
		t.Error("a port changed hands while its tunnel had not dropped it")
	}
	second, err := Open(cfg)
	if err != nil {
		t.Fatalf("a port that was left: %v", err)
	}
	second.Close(0)
	if pool.Drop(port); !pool.Claim(port) {
		t.Error("a port that was dropped has an owner")
	}
	if port < firstPort || port > lastPort {
		t.Errorf("port %d is not between %d and %d", port, firstPort, lastPort)
	}
}
