// Package certificates has what tunnels show to prove that a host is theirs: leaves of
// the node's own CA, a pair of files, or certificates that an ACME authority gives.
//
// A Source gives a certificate only for a host that somebody wants, so nothing that a
// client names can make it sign, ask or remember anything. What it does not have, or not
// yet, is no certificate, never one of another kind: whoever configured files or an
// authority does not want clients that trust the node's CA instead.
//
// Getting one never waits for the network or a disk that is slow, but for the look at two
// files. Sources are safe for concurrent use.
package certificates

import (
	"context"
	"crypto/tls"
	"log/slog"

	"brig/internal/config"
	"brig/nodeagent/ca"
)

// Source of certificates.
type Source interface {
	// Want says that host will be asked for until release, which may be called again.
	Want(host string) (release func())
	// Get the certificate for host; nil without an error if there is none.
	Get(hello *tls.ClientHelloInfo, host string) (*tls.Certificate, error)
	// Challenge answers an ACME authority that looks whether a name leads here; nil
	// without an error if nobody asked it to.
	Challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Open returns the source that cfg asks for. It ends with ctx. A certificate that cannot
// be read or got is no error: brigd serves without it, says so in its log, and goes on
// looking.
func Open(ctx context.Context, cfg *config.Config, authority *ca.CA, log *slog.Logger) (Source, error) {
	switch t := cfg.Tunnels; {
	case t.Certificate != "":
		return newFiles(t.Certificate, t.Key, log), nil
	case t.ACME.Directory != "":
		return newACME(ctx, cfg, log)
	}
	return newLeaves(authority.Leaf), nil
}

// unchallenged is the part of sources that no authority asks.
type unchallenged struct{}

// Challenge has no answer.
func (unchallenged) Challenge(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
