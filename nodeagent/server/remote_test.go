package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"brig/internal/config"
	"brig/nodeagent/admission"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/remote"
	"brig/nodeagent/socket"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// leaf signs a certificate that is good until end.
func (a authority) leaf(t *testing.T, name string, use x509.ExtKeyUsage, end time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// far is a server with a listener for remote callers.
type far struct {
	*served
	ca  authority
	cfg config.Remote
	url string
}

func serveFar(t *testing.T) *far {
	t.Helper()
	f := &far{served: serve(t), ca: newAuthority(t)}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	cert, key := f.ca.leaf(t, "node", x509.ExtKeyUsageServerAuth, time.Now().Add(time.Hour))
	for name, text := range map[string][]byte{"cert": cert, "key": key, "ca": f.ca.pem} {
		if err := os.WriteFile(path(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.cfg = config.Remote{
		Listen: "127.0.0.1:0", Certificate: path("cert"), Key: path("key"), ClientCA: path("ca"),
		Principals: map[string]uint32{"alice": 1001, "bob": 1002, "root": 0},
	}
	log := slog.New(slog.NewTextHandler(f.log, nil))
	l, err := remote.Listen(f.cfg, socket.NewDoor(admission.New("connections", "quotas.connections", 10, 100), log), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		<-done
		l.Close()
	})
	f.url = "https://" + l.Addr().String()
	return f
}

// as is a client with a certificate of ca's; an empty name: with none.
func (f *far) as(t *testing.T, ca authority, name string, end time.Time) (brigv1connect.SandboxesClient, *http.Client) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(f.ca.cert)
	cfg := &tls.Config{RootCAs: roots}
	if name != "" {
		cert, key := ca.leaf(t, name, x509.ExtKeyUsageClientAuth, end)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}}
	t.Cleanup(hc.CloseIdleConnections)
	return brigv1connect.NewSandboxesClient(hc, f.url), hc
}

func tryCreate(t *testing.T, c brigv1connect.SandboxesClient) (string, error) {
	t.Helper()
	r, err := c.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{Image: "localhost/x"}))
	if err != nil {
		return "", err
	}
	return r.Msg.GetSandbox().GetId(), nil
}

func TestPrincipals(t *testing.T) {
	f := serveFar(t)
	soon := time.Now().Add(time.Hour)
	alice, _ := f.as(t, f.ca, "alice", soon)
	id, err := tryCreate(t, alice)
	if err != nil {
		t.Fatal(err)
	}
	if lines := f.log.of("component=audit", "principal=alice", "uid=1001", "pid=0", id, "code=ok"); len(lines) != 1 {
		t.Errorf("the audit says %q of alice's create", lines)
	}
	bob, _ := f.as(t, f.ca, "bob", soon)
	if _, err := bob.Get(t.Context(), connect.NewRequest(&brigv1.GetRequest{Sandbox: id})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("bob gets alice's: %v", err)
	}
	for _, name := range []string{"mallory", "root", "alice\nuid=0"} {
		c, _ := f.as(t, f.ca, name, soon)
		if _, err := tryCreate(t, c); connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "none of remote.principals") {
			t.Errorf("%q: %v; want permission_denied", name, err)
		}
	}
	if lines := f.log.of("component=audit", "principal=mallory", "code=permission_denied"); len(lines) != 1 {
		t.Errorf("the audit says %q of mallory", lines)
	}
	if lines := f.log.of("principal=root", "code=permission_denied"); len(lines) != 1 {
		t.Errorf("the audit says %q of who calls itself root", lines)
	}
}

func TestCertificatesThatAreNotLetIn(t *testing.T) {
	f := serveFar(t)
	for name, client := range map[string]func() (brigv1connect.SandboxesClient, *http.Client){
		"none": func() (brigv1connect.SandboxesClient, *http.Client) { return f.as(t, f.ca, "", time.Time{}) },
		"another authority": func() (brigv1connect.SandboxesClient, *http.Client) {
			return f.as(t, newAuthority(t), "alice", time.Now().Add(time.Hour))
		},
		"expired": func() (brigv1connect.SandboxesClient, *http.Client) {
			return f.as(t, f.ca, "alice", time.Now().Add(-time.Second))
		},
	} {
		c, _ := client()
		if id, err := tryCreate(t, c); err == nil { // what it is told depends on which of both is faster
			t.Errorf("%s: made %q, %v", name, id, err)
		}
	}
	lines := f.log.of("component=audit", "code=unauthenticated")
	for deadline := time.Now().Add(10 * time.Second); len(lines) < 3 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // a client learns it before it is written
		lines = f.log.of("component=audit", "code=unauthenticated")
	}
	if len(lines) < 3 {
		t.Errorf("the audit says %q", lines)
	}
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}}} //nolint:gosec // the server is to refuse
	if r, err := old.Get(f.url); err == nil {
		r.Body.Close()
		t.Error("TLS 1.2 was spoken")
	}
}

// TestACertificatesEndIsTheConnections: nobody goes on with what has run out.
func TestACertificatesEndIsTheConnections(t *testing.T) {
	f := serveFar(t)
	c, _ := f.as(t, f.ca, "alice", time.Now().Add(2*time.Second))
	stream, err := c.Events(t.Context(), connect.NewRequest(&brigv1.EventsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatalf("no events: %v", stream.Err())
	}
	if stream.Receive() || stream.Err() == nil {
		t.Errorf("after the certificate's end: %v, %v", stream.Msg(), stream.Err())
	}
}

// TestFilesAreReadAgain: another authority's clients are let in once its certificate is
// there, the earlier one's are not; a broken file changes nothing.
func TestFilesAreReadAgain(t *testing.T) {
	f := serveFar(t)
	soon := time.Now().Add(time.Hour)
	if err := os.WriteFile(f.cfg.ClientCA, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := f.as(t, f.ca, "alice", soon)
	if _, err := tryCreate(t, before); err != nil {
		t.Errorf("with a broken file: %v", err)
	}
	if lines := f.log.of("those before stay in force"); len(lines) != 1 {
		t.Errorf("the log says %q", lines)
	}
	stream, err := before.Events(t.Context(), connect.NewRequest(&brigv1.EventsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	stream.Receive()
	next := newAuthority(t)
	if err := os.WriteFile(f.cfg.ClientCA, next.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	after, _ := f.as(t, next, "alice", soon)
	if _, err := tryCreate(t, after); err != nil {
		t.Errorf("the new authority's: %v", err)
	}
	if again, _ := f.as(t, f.ca, "alice", soon); again != nil {
		if _, err := tryCreate(t, again); err == nil {
			t.Error("the old authority's is still let in")
		}
	}
	for stream.Receive() {
	}
	if stream.Err() == nil {
		t.Error("the old authority's connection goes on")
	}
}

// TestFiguresAreLocal: what the node does altogether is no remote caller's business.
func TestFiguresAreLocal(t *testing.T) {
	f := serveFar(t)
	_, hc := f.as(t, f.ca, "alice", time.Now().Add(time.Hour))
	r, err := hc.Get(f.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusForbidden {
		t.Errorf("status %d; want %d", r.StatusCode, http.StatusForbidden)
	}
}

// TestManyConnectionsOfOnePrincipal: the quota holds from afar too.
func TestManyConnectionsOfOnePrincipal(t *testing.T) {
	f := serveFar(t)
	soon := time.Now().Add(time.Hour)
	for range 10 {
		c, _ := f.as(t, f.ca, "alice", soon)
		if _, err := c.List(t.Context(), connect.NewRequest(&brigv1.ListRequest{})); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := f.as(t, f.ca, "alice", soon)
	if _, err := c.List(t.Context(), connect.NewRequest(&brigv1.ListRequest{})); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("one too many: %v", err)
	}
	bob, _ := f.as(t, f.ca, "bob", soon)
	if _, err := bob.List(t.Context(), connect.NewRequest(&brigv1.ListRequest{})); err != nil {
		t.Errorf("another principal: %v", err)
	}
}
