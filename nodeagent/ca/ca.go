// Package ca is the node's own certificate authority: it signs a leaf for every host
// name of tunnels that end TLS in brigd, so that TLS works on a node without any name in
// the public DNS and without the internet. Its certificate may sign for the node's hosts
// alone, which are the advertised one and the names below the domain of the tunnels (name
// constraints), so whoever trusts it trusts it for nothing else.
//
// The key is readable by root alone and never leaves the node's state directory;
// the certificate is readable by everybody.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	// backdate lets clients work whose clock is behind the node's.
	backdate = time.Hour
)

// CA of a node.
type CA struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Open loads the CA in dir, or makes one for the hosts, and what is below them, if there
// is none or the one there may not sign for all of them, or not much longer.
func Open(dir string, hosts ...string) (*CA, error) {
	c, err := load(dir)
	if err == nil && c.validFor(hosts) {
		return c, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return create(dir, hosts)
}

// Path is where the certificate lies.
func (c *CA) Path() string { return certPath(c.dir) }

// PEM is the certificate.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

func certPath(dir string) string { return filepath.Join(dir, "ca.pem") }
func keyPath(dir string) string  { return filepath.Join(dir, "ca.key") }

func (c *CA) validFor(hosts []string) bool {
	for _, host := range hosts {
		if _, err := c.Leaf(host); err != nil {
			return false
		}
	}
	return time.Until(c.cert.NotAfter) > leafLife
}

func create(dir string, hosts []string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	template := authority(hosts)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the CA's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the CA's certificate: %w", err)
	}
	c := &CA{dir: dir, cert: cert, key: key}
	return c, c.save()
}

func authority(hosts []string) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: "brig tunnels of " + hosts[0]},
		NotBefore:                   time.Now().Add(-backdate),
		NotAfter:                    time.Now().Add(authorityLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true,
	}
	for _, host := range hosts {
		if addr, err := netip.ParseAddr(host); err == nil {
			t.PermittedIPRanges = append(t.PermittedIPRanges, &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())})
		} else {
			t.PermittedDNSDomains = append(t.PermittedDNSDomains, host)
		}
	}
	// A kind of name of which nothing is permitted would be unconstrained.
	if t.PermittedDNSDomains == nil {
		t.ExcludedDNSDomains = []string{""}
	}
	if t.PermittedIPRanges == nil {
		t.ExcludedIPRanges = []*net.IPNet{everything(32), everything(128)}
	}
	return t
}

func everything(bits int) *net.IPNet {
	return &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // never fails
	return n.Add(n, big.NewInt(1))
}
