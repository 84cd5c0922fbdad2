package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/nodeagent/ca"
	"brig/nodeagent/record"
)

const (
	domain = "boxes.example"
	ours   = "80-sb-a." + domain
	theirs = "80-sb-b." + domain
)

// leavesOf is a CA's certificates for loopback and the domain.
func leavesOf(t *testing.T) (func(*tls.ClientHelloInfo, string) (*tls.Certificate, error), *ca.CA) {
	t.Helper()
	authority, err := ca.Open(t.TempDir(), "127.0.0.1", domain)
	if err != nil {
		t.Fatal(err)
	}
	return func(_ *tls.ClientHelloInfo, host string) (*tls.Certificate, error) { return authority.Leaf(host) }, authority
}

// outcome is what a client sees that names sni: the names of the certificate, the
// protocol, and the letter that it is answered by; or the error.
func outcome(t *testing.T, address, sni string, authority *ca.CA, offers ...string) string {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM())
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	verify := sni
	if sni == "" || net.ParseIP(sni) != nil {
		verify = "127.0.0.1"
	}
	c := tls.Client(conn, &tls.Config{ServerName: sni, NextProtos: offers, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: verify})
		return err
	}})
	if err := c.Handshake(); err != nil {
		return err.Error()
	}
	leaf := c.ConnectionState().PeerCertificates[0]
	said := c.ConnectionState().NegotiatedProtocol
	letter := make([]byte, 1)
	if _, err := c.Write([]byte("x")); err != nil {
		return "handshake, then " + err.Error()
	}
	if _, err := io.ReadFull(c, letter); err != nil {
		return "handshake, then " + err.Error()
	}
	names := leaf.DNSNames
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return strings.Join(append(names, said, string(letter)), " ")
}

const refused = "remote error: tls: unrecognized name"

// TestNamesOfATunnel: a certificate for the host that is advertised and for the
// tunnel's own name, and for nobody else's.
func TestNamesOfATunnel(t *testing.T) {
	leaves, authority := leavesOf(t)
	echo := service(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn); conn.Close() })
	_, address := openWith(t, Config{Kind: record.TLS, Name: ours, Dial: echo, Certificate: leaves})
	got := map[string]string{}
	for _, sni := range []string{"", ours, strings.ToUpper(ours), theirs, domain, "example.com", "localhost"} {
		got[sni] = outcome(t, address, sni, authority, "http/1.1")
	}
	want := map[string]string{
		"": "127.0.0.1 http/1.1 x", ours: ours + " http/1.1 x", strings.ToUpper(ours): ours + " http/1.1 x",
		theirs: refused, domain: refused, "example.com": refused, "localhost": refused,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("by the name that is shown, -want +got\n%s", diff)
	}
}

// TestNoCertificate: what there is none for is refused, like a foreign name.
func TestNoCertificate(t *testing.T) {
	_, authority := leavesOf(t)
	_, address := openWith(t, Config{
		Kind: record.TLS, Dial: service(t, reverse),
		Certificate: func(*tls.ClientHelloInfo, string) (*tls.Certificate, error) { return nil, nil },
	})
	if got := outcome(t, address, "", authority); got != refused {
		t.Errorf("%s, want %s", got, refused)
	}
}

// TestShared: the name leads, whoever else is there; all who are not led on hear the
// same.
func TestShared(t *testing.T) {
	leaves, authority := leavesOf(t)
	address, shared := serveShared(t, func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName != "asked."+domain {
			return nil, nil
		}
		return authority.Leaf(hello.ServerName)
	})
	by := func(letter string) func(context.Context) (net.Conn, error) {
		return service(t, func(conn *net.TCPConn) {
			defer conn.Close()
			if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
				_, _ = io.WriteString(conn, letter)
			}
		})
	}
	add := func(c Config) *Tunnel {
		c.Certificate = leaves
		tunnel, _ := openWith(t, c)
		if err := shared.Add(tunnel); err != nil {
			t.Fatal(err)
		}
		return tunnel
	}
	one := add(Config{Kind: record.TLS, Name: ours, Dial: by("1")})
	two := add(Config{Kind: record.H2, Name: theirs, Dial: by("2")})
	shut := add(Config{Kind: record.TLS, Name: "81-sb-a." + domain, Dial: by("3"), Admits: func(netip.Addr) bool { return false }})
	full := NewPool(Limits{}).Share()
	add(Config{Kind: record.TLS, Name: "82-sb-a." + domain, Dial: by("4"), Share: full})
	if thief, _ := openWith(t, Config{Kind: record.TLS, Name: ours, Dial: by("5"), Certificate: leaves}); shared.Add(thief) == nil {
		t.Error("a name changed hands")
	}
	got := map[string]string{}
	for _, sni := range []string{"", "127.0.0.1", ours, theirs, "81-sb-a." + domain, "82-sb-a." + domain, "80-sb-c." + domain, domain, "example.com", strings.Repeat("a", 63) + "." + domain} {
		got[sni] = outcome(t, address, sni, authority, "h2", "http/1.1")
	}
	want := map[string]string{
		ours: ours + " http/1.1 1", theirs: theirs + " h2 2",
		"": refused, "127.0.0.1": refused, "81-sb-a." + domain: refused, "82-sb-a." + domain: refused, "80-sb-c." + domain: refused,
		domain: refused, "example.com": refused, strings.Repeat("a", 63) + "." + domain: refused,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("by the name that is shown, -want +got\n%s", diff)
	}
	for tunnel, bytes := range map[*Tunnel]uint64{one: 1, two: 1, shut: 0} {
		await(t, "the count", func() bool { n, in, _ := tunnel.Counters(); return n == 0 && in == bytes })
	}
	if got := outcome(t, address, "asked."+domain, authority, challengeProtocol); !strings.HasPrefix(got, "handshake, then ") {
		t.Errorf("an authority that looks hears %s", got)
	}
	if got := outcome(t, address, ours, authority, challengeProtocol); got != refused {
		t.Errorf("one that nobody asked hears %s", got)
	}
	shared.Remove(one)
	if got := outcome(t, address, ours, authority); got != refused {
		t.Errorf("a name that was removed: %s", got)
	}
}

// TestOneCertificateForAll: under a name of its own an h2 tunnel shows no certificate
// that is good for another one's.
func TestOneCertificateForAll(t *testing.T) {
	_, authority := leavesOf(t)
	wild, err := authority.Leaf("*." + domain)
	if err != nil {
		t.Fatal(err)
	}
	address, shared := serveShared(t, nil)
	for _, c := range []Config{{Kind: record.TLS, Name: ours}, {Kind: record.H2, Name: theirs}} {
		c.Dial = service(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn); conn.Close() })
		c.Certificate = func(*tls.ClientHelloInfo, string) (*tls.Certificate, error) { return wild, nil }
		tunnel, _ := openWith(t, c)
		if err := shared.Add(tunnel); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := outcome(t, address, ours, authority, "http/1.1"), "*."+domain+" http/1.1 x"; got != want {
		t.Errorf("tls: %s, want %s", got, want)
	}
	if got := outcome(t, address, theirs, authority, "h2"); got != refused {
		t.Errorf("h2: %s, want %s", got, refused)
	}
}

// serveShared serves a shared port of loopback until the test's end.
func serveShared(t *testing.T, challenge func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (string, *Shared) {
	t.Helper()
	at := freePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	shared := NewShared(at, roomy, challenge, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() { defer close(done); shared.Keep(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	await(t, "the shared port", func() bool {
		conn, err := net.Dial("tcp", at.String())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return at.String(), shared
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestSharedPortOfSomebodyElse is not taken, and got as soon as it is free.
func TestSharedPortOfSomebodyElse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	shared := NewShared(l.Addr().(*net.TCPAddr).AddrPort(), roomy, nil, slog.New(slog.DiscardHandler))
	if err := shared.Serve(ctx); err == nil {
		t.Fatal("it serves on somebody else's port")
	}
	done := make(chan struct{})
	go func() { defer close(done); shared.Keep(ctx) }()
	address := l.Addr().String()
	l.Close()
	_, authority := leavesOf(t)
	await(t, "the port", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if got := outcome(t, address, ours, authority); got != refused {
		t.Errorf("%s, want %s", got, refused)
	}
	cancel()
	<-done
}
