package remote

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/time/rate"

	"brig/internal/config"
)

// files are the certificates that the operator gave, read again when they change. Files
// that cannot be used leave those before them in force.
type files struct {
	paths [3]string
	quiet *rate.Limiter // of lines about handshakes that failed

	mu     sync.Mutex // guards what follows
	texts  [3][]byte
	config *tls.Config
	fault  string // that was logged already
}

func load(cfg config.Remote) (*files, error) {
	f := &files{paths: [3]string{cfg.Certificate, cfg.Key, cfg.ClientCA}, quiet: rate.NewLimiter(1, 10)}
	texts, err := f.read()
	if err != nil {
		return nil, err
	}
	f.texts = texts
	f.config, err = parse(texts)
	return f, err
}

func (f *files) read() (texts [3][]byte, err error) {
	for i, path := range f.paths {
		if texts[i], err = os.ReadFile(path); err != nil {
			return texts, fmt.Errorf("read what remote callers are let in by: %w", err)
		}
	}
	return texts, nil
}

func parse(texts [3][]byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return nil, fmt.Errorf("remote.certificate and remote.key: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(texts[2]) {
		return nil, errors.New("remote.client_ca holds no certificate: want PEM")
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		NextProtos:   []string{"h2", "http/1.1"},
		// Every connection shows its certificate; none stands for one that was seen before.
		SessionTicketsDisabled: true,
	}, nil
}

// server is the configuration of now.
func (f *files) server(log *slog.Logger) *tls.Config {
	f.look(log)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config
}

// look reads the files again and returns what callers are judged by.
func (f *files) look(log *slog.Logger) *x509.CertPool {
	texts, err := f.read()
	f.mu.Lock()
	defer f.mu.Unlock()
	same := true
	for i := range texts {
		same = same && bytes.Equal(texts[i], f.texts[i])
	}
	if err == nil && same {
		f.fault = ""
		return f.config.ClientCAs
	}
	var again *tls.Config
	if err == nil {
		again, err = parse(texts)
	}
	switch {
	case err == nil:
		f.texts, f.config, f.fault = texts, again, ""
		log.Info("the certificates for remote callers were read again")
	case err.Error() != f.fault:
		f.fault = err.Error()
		log.Error("read the certificates for remote callers again; those before stay in force", "err", err)
	}
	return f.config.ClientCAs
}

// refused tells of a handshake that failed, as often as a log can bear.
func (f *files) refused(log *slog.Logger, from net.Addr, err error) {
	if f.quiet.Allow() {
		log.Info("refused", "component", "audit", "from", from.String(), "code", "unauthenticated", "err", err)
	}
}
