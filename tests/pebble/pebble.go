// Package pebble runs Let's Encrypt's own test authority of that name inside a test, so that
// certificates are asked for, proved and issued by the real protocol without leaving the
// machine. For it every name leads to loopback.
package pebble

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Authority serves until the test ends.
type Authority struct {
	// Directory is the URL where clients begin.
	Directory string
	// Root is PEM that the authority's own server is checked by.
	Root []byte
	// Issued is what the certificates that it issues are checked by.
	Issued *x509.CertPool
}

// Start an authority that looks for names at this port of loopback instead of 443.
func Start(t testing.TB, port uint16) *Authority {
	t.Helper()
	// Pebble dawdles on purpose, by seconds.
	if err := os.Setenv("PEBBLE_VA_NOSLEEP", "1"); err != nil {
		t.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "for tests"}})
	validation := va.New(quiet, 0, int(port), true, resolver(t), store)
	front := wfe.New(quiet, store, validation, issuer, []string{"pebble.letsencrypt.org"}, true, false, 0, 0)
	server := httptest.NewUnstartedServer(front.Handler())
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	a := &Authority{
		Directory: server.URL + wfe.DirectoryPath,
		Root:      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		Issued:    x509.NewCertPool(),
	}
	if !a.Issued.AppendCertsFromPEM(issuer.GetRootCert(0).PEM()) {
		t.Fatal("pebble has no root")
	}
	return a
}

// resolver answers every question with loopback.
func resolver(t testing.TB) (address string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		m := new(dns.Msg).SetReply(question)
		if q := question.Question[0]; q.Qtype == dns.TypeA {
			header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}
			m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(m) // who asked has gone
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.ActivateAndServe() // it ends with the listener
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return l.Addr().String()
}
