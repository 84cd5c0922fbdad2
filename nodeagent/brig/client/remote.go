package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
)

// Remote is a node elsewhere, and what is shown to it.
type Remote struct {
	// Address is https://HOST:PORT.
	Address string
	// Cert, Key and CA are PEM files: the caller's certificate and its key, and what the
	// node's certificate is checked by. All three are needed.
	Cert, Key, CA string
}

// Dial returns a client of the node at r.Address. Files that cannot be used are an error;
// whether the node answers shows at the first call.
func Dial(r Remote) (*Client, error) {
	u, err := url.Parse(r.Address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("--address %q: want https://HOST:PORT", r.Address)
	}
	if r.Cert == "" || r.Key == "" || r.CA == "" {
		return nil, errors.New("--address needs --cert, --key and --ca: a node is called by certificates alone")
	}
	pair, err := tls.LoadX509KeyPair(r.Cert, r.Key)
	if err != nil {
		return nil, fmt.Errorf("--cert and --key: %w", err)
	}
	text, err := os.ReadFile(r.CA)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca %s: holds no certificate, want PEM", r.CA)
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	return over(r.Address, r.Address, &http.Transport{
		Protocols:       &protocols,
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS13},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, &DialError{Socket: r.Address, Err: err}
			}
			return conn, nil
		},
	}), nil
}
