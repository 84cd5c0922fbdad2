package tunnel

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"brig/nodeagent/record"
)

// nobody is the answer to a client that names somebody who is not here: the alert
// unrecognized_name, as crypto/tls sends it when it has no certificate. Nothing is
// resumed by it, so no ticket goes round the names.
var nobody = &tls.Config{
	MinVersion:             tls.VersionTLS13,
	SessionTicketsDisabled: true,
	GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
}

// frontTLS has the keys of the tunnel's session tickets, too, which no other tunnel knows.
func (t *Tunnel) frontTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: t.configFor}
}

// serverTLS offers what the kind says by ALPN, TLS 1.3 at least.
func (t *Tunnel) serverTLS() *tls.Config {
	protocol := "http/1.1"
	if t.cfg.Kind == record.H2 {
		protocol = "h2"
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protocol},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			host, ok := t.named(hello.ServerName)
			if !ok {
				return nil, nil
			}
			return t.certificate(hello, host)
		},
	}
}

// configFor decides whether a client speaks to this tunnel.
func (t *Tunnel) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if _, ok := t.named(hello.ServerName); !ok {
		return nobody, nil
	}
	// crypto/tls lets a client that offers http/1.1, or nothing, through.
	if t.cfg.Kind == record.H2 && !slices.Contains(hello.SupportedProtos, "h2") {
		return nil, fmt.Errorf("the client offers %v, this tunnel speaks h2 only", hello.SupportedProtos)
	}
	return t.tls, nil
}

// named is the host that a client means, if it is one of the tunnel's. Who dials an
// address names none, or, though the standard has no such name, the address.
func (t *Tunnel) named(sni string) (host string, ok bool) {
	name := strings.ToLower(sni)
	if name == "" {
		return t.cfg.Host, true
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return t.cfg.Host, true
	}
	return name, name == t.cfg.Host || name == t.cfg.Name
}

// certificate for a host. A browser that has an h2 connection whose certificate is
// good for a second name of the same address and port asks for that name on it, too: it
// would send one sandbox what is meant for another. So under a name of its own a tunnel
// of h2 shows only a certificate for that name alone.
func (t *Tunnel) certificate(hello *tls.ClientHelloInfo, host string) (*tls.Certificate, error) {
	c, err := t.cfg.Certificate(hello, host)
	if err != nil || c == nil || t.cfg.Kind != record.H2 || host != t.cfg.Name {
		return c, err
	}
	if c.Leaf == nil || !slices.Equal(c.Leaf.DNSNames, []string{host}) {
		return nil, nil
	}
	return c, nil
}
