package tunnel

import (
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"time"

	"brig/nodeagent/record"
)

// serverTLS offers what kind says by ALPN, TLS 1.3 at least.
func serverTLS(kind record.Kind, issue func() (*tls.Certificate, error)) (*tls.Config, error) {
	leaf := &leaf{issue: issue}
	if _, err := leaf.get(nil); err != nil {
		return nil, err
	}
	protocol := "http/1.1"
	if kind == record.H2 {
		protocol = "h2"
	}
	config := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{protocol},
		GetCertificate: leaf.get,
	}
	if kind == record.H2 {
		// crypto/tls lets a client that offers http/1.1, or nothing, through.
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if !slices.Contains(hello.SupportedProtos, protocol) {
				return nil, fmt.Errorf("the client offers %v, this tunnel speaks h2 only", hello.SupportedProtos)
			}
			return nil, nil
		}
	}
	return config, nil
}

// leaf is a certificate that is renewed when a third of its life is left.
type leaf struct {
	issue func() (*tls.Certificate, error)

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
}

func (l *leaf) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil {
		life := l.current.Leaf.NotAfter.Sub(l.current.Leaf.NotBefore)
		if time.Until(l.current.Leaf.NotAfter) > life/3 {
			return l.current, nil
		}
	}
	fresh, err := l.issue()
	if err != nil {
		return nil, err
	}
	l.current = fresh
	return fresh, nil
}
