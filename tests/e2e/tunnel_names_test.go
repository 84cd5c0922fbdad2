package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"brig/tests/node"
	"brig/tests/pebble"
)

const (
	domain = "boxes.example"
	// unknown is what every client hears that is not led on.
	unknown = "remote error: tls: unrecognized name"
)

// freePort of loopback, below those that connections are given.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for port := uint16(19000); port < 20000; port++ {
		var lc net.ListenConfig
		if l, err := lc.Listen(t.Context(), "tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// answer of a TLS tunnel at addr to a client that names sni: an echo, or the error. The
// protocol is what both agreed upon.
func answer(t *testing.T, addr, sni string, roots *x509.CertPool, offers ...string) (protocol string, err error) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: sni, NextProtos: offers}}
	conn, err := d.DialContext(t.Context(), "tcp4", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().NegotiatedProtocol, ping(conn)
}

func byPort(list []tunnel) map[int]tunnel {
	m := map[int]tunnel{}
	for _, t := range list {
		m[t.SandboxPort] = t
	}
	return m
}

// TestTunnelsByName: with a domain every TLS tunnel has a name, and one port leads to
// all; whoever is not led on hears the same; a restart changes nothing. Who takes a
// tunnel's port meanwhile keeps it, the tunnel says so, and has it back when he leaves.
func TestTunnelsByName(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	n := launch(t, node.Options{Overrides: fmt.Sprintf("[tunnels]\ndomain = %q\nshared_port = %d\n", domain, port)})
	at := fmt.Sprintf("127.0.0.1:%d", port)
	id := n.Create(t, "--no-egress", "--port", "7", "--port", "8/h2", "--port", "9/tcp", n.python, "--", "python3", "-c", echo)
	guarded := n.Create(t, "--inbound-cidr", "203.0.113.0/24", "--port", "7", n.python, "--", "python3", "-c", echo)
	list := byPort(tunnels(t, n.Node, id))
	name := func(port int, id string) string { return fmt.Sprintf("%d-%s.%s", port, id, domain) }
	if got := list[7]; got.Host != name(7, id) || got.Port != int(port) || got.URL != fmt.Sprintf("https://%s:%d", name(7, id), port) {
		t.Errorf("the tunnel has %+v", got)
	}
	if got := list[9]; got.Host != "127.0.0.1" || got.Port == int(port) {
		t.Errorf("the raw tunnel has %+v", got)
	}
	pool := trust(t, n.Node)
	dialEcho(t, at, &tls.Config{RootCAs: pool, ServerName: name(7, id)})
	check := func() {
		t.Helper()
		for sni, want := range map[string]string{
			name(7, id): "http/1.1", name(8, id): "h2",
			name(9, id): unknown, name(10, id): unknown, name(7, guarded): unknown, name(7, "sb-aaaaaaaaaaaaaaaa"): unknown,
			domain: unknown, "example.com": unknown, "127.0.0.1": unknown, // an address is not shown: nobody is named
		} {
			got, err := answer(t, at, sni, pool, "h2", "http/1.1")
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s hears %s, want %s", sni, got, want)
			}
		}
	}
	check()
	served(t, n, id, 9)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	squatter, err := lc.Listen(t.Context(), "tcp4", list[9].addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error { _, err := answer(t, at, name(7, id), pool); return err })
	check()
	taken(t, n, id, list[9], squatter)
	n.Brig(t, "tunnel", "close", id, "7")
	if _, err := answer(t, at, name(7, id), pool); err == nil || err.Error() != unknown {
		t.Errorf("a name whose tunnel was closed: %v", err)
	}
}

// taken looks at a tunnel whose port a squatter has, until he leaves.
func taken(t *testing.T, n *fixture, id string, tun tunnel, squatter net.Listener) {
	t.Helper()
	if got := counters(t, n, id, tun.SandboxPort); got.Fault == "" || got.Port != tun.Port {
		t.Errorf("%+v; want to be told that the port is taken", got)
	}
	conn, err := dialSource(t.Context(), "127.0.0.1", tun.addr())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if theirs, err := squatter.Accept(); err != nil {
		t.Errorf("who has the port lost it: %v", err)
	} else {
		theirs.Close()
	}
	squatter.Close()
	dialEcho(t, tun.addr(), nil)
	if got := counters(t, n, id, tun.SandboxPort); got.Fault != "" {
		t.Errorf("%+v", got)
	}
}

// TestTunnelCertificateFiles: the operator's pair is shown, another one once it is there,
// and never half of one.
func TestTunnelCertificateFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := selfSigned(t, "127.0.0.1")
	first.write(t, certificate, key)
	n := launch(t, node.Options{Overrides: fmt.Sprintf("[tunnels]\ncertificate = %q\nkey = %q\n", certificate, key)})
	id := n.Create(t, "--no-egress", "--port", "7", n.python, "--", "python3", "-c", echo)
	at := tunnels(t, n.Node, id)[0].addr()
	dialEcho(t, at, &tls.Config{RootCAs: first.pool})
	second := selfSigned(t, "127.0.0.1")
	if err := os.WriteFile(certificate, second.certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // brigd looks once in a second
	if _, err := answer(t, at, "127.0.0.1", first.pool); err != nil {
		t.Errorf("with half of a new pair: %v", err)
	}
	second.write(t, certificate, key)
	eventually(t, 10*time.Second, func() error { _, err := answer(t, at, "127.0.0.1", second.pool); return err })
}

// TestTunnelACME: every name gets a certificate of the authority, which finds it through
// the shared port, while creates wait for nothing.
func TestTunnelACME(t *testing.T) {
	t.Parallel()
	port := freePort(t) + 500
	authority := pebble.Start(t, port)
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, authority.Root, 0o600); err != nil {
		t.Fatal(err)
	}
	n := launch(t, node.Options{Overrides: fmt.Sprintf(
		"[tunnels]\ndomain = %q\nshared_port = %d\n[tunnels.acme]\ndirectory = %q\nroot = %q\n", domain, port, authority.Directory, root)})
	id := n.Create(t, "--no-egress", "--port", "7", n.python, "--", "python3", "-c", echo)
	tun := tunnels(t, n.Node, id)[0]
	at := fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, 30*time.Second, func() error { _, err := answer(t, at, tun.Host, authority.Issued); return err })
	if _, err := answer(t, at, tun.Host, trust(t, n.Node)); err == nil {
		t.Error("the node's own CA vouches for it")
	}
}

type selfSignedPair struct {
	certificate, key []byte
	pool             *x509.CertPool
}

func selfSigned(t *testing.T, host string) selfSignedPair {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "an operator's"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(host)}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	p := selfSignedPair{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
		pool:        x509.NewCertPool(),
	}
	p.pool.AppendCertsFromPEM(p.certificate)
	return p
}

func (p selfSignedPair) write(t *testing.T, certificate, key string) {
	t.Helper()
	for path, data := range map[string][]byte{certificate: p.certificate, key: p.key} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
