package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"brig/internal/config"
)

const (
	// folder of the state folder that keeps accounts, keys and certificates.
	folder = "acme"
	// tidyEvery is how often those that have long expired are removed.
	tidyEvery = 24 * time.Hour
	longPast  = 14 * 24 * time.Hour
)

// acme has certmagic get a certificate for every host that is wanted, prove by TLS-ALPN
// at the shared port that the name leads here, and renew it in time.
type acme struct {
	ctx    context.Context // the daemon's: asking goes on beside all calls
	config *certmagic.Config
	cache  *certmagic.Cache
	log    *slog.Logger

	mu     sync.Mutex // guards what follows
	wanted map[string]*wish
}

type wish struct {
	count int
	end   context.CancelFunc
}

func newACME(ctx context.Context, cfg *config.Config, log *slog.Logger) (*acme, error) {
	storage := &certmagic.FileStorage{Path: filepath.Join(cfg.StateDir, folder)}
	if err := os.MkdirAll(storage.Path, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of certificates: %w", err)
	}
	roots, err := rootsOf(cfg.Tunnels.ACME.Root)
	if err != nil {
		return nil, err
	}
	a := &acme{ctx: ctx, log: log, wanted: map[string]*wish{}}
	quiet := zap.NewNop() // what matters are the events
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		Logger:           quiet,
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage: storage, Logger: quiet, OnEvent: a.tell,
		OCSP: certmagic.OCSPConfig{DisableStapling: true}, // nothing but the authority is asked
	})
	a.config.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(a.config, certmagic.ACMEIssuer{
		CA: cfg.Tunnels.ACME.Directory, Email: cfg.Tunnels.ACME.Email, Agreed: true, TrustedRoots: roots,
		DisableHTTPChallenge: true, ListenHost: cfg.Tunnels.Bind, AltTLSALPNPort: int(cfg.Tunnels.SharedPort),
		Logger: quiet,
	})}
	context.AfterFunc(ctx, a.cache.Stop)
	go a.tidy(storage)
	return a, nil
}

func rootsOf(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read tunnels.acme.root: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tunnels.acme.root %s holds no certificate", path)
	}
	return roots, nil
}

// Want has a certificate for host got, and kept in time, beside everything else. An
// address gets none.
func (a *acme) Want(host string) (release func()) {
	if _, err := netip.ParseAddr(host); err == nil {
		return func() {}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.wanted[host]
	if w == nil {
		ctx, end := context.WithCancel(a.ctx)
		w = &wish{end: end}
		a.wanted[host] = w
		go func() {
			if err := a.config.ManageAsync(ctx, []string{host}); err != nil {
				a.log.Error("ask for a certificate", "host", host, "err", err)
			}
		}()
	}
	w.count++
	return sync.OnceFunc(func() { a.release(host, w) })
}

// release lets a certificate expire that nobody wants any more. It stays on disk until
// then: who wants it again soon need not ask for another.
func (a *acme) release(host string, w *wish) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.count--; w.count > 0 {
		return
	}
	w.end()
	delete(a.wanted, host)
	a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: host}})
}

// Get returns what there is for a host that is wanted.
func (a *acme) Get(hello *tls.ClientHelloInfo, host string) (*tls.Certificate, error) {
	a.mu.Lock()
	wanted := a.wanted[host] != nil
	a.mu.Unlock()
	if !wanted {
		return nil, nil
	}
	named := *hello
	named.ServerName = host
	c, err := a.config.GetCertificate(&named)
	if err != nil {
		a.log.Debug("there is no certificate yet", "host", host, "err", err)
		return nil, nil
	}
	return c, nil
}

// Challenge answers for a host that is being asked for.
func (a *acme) Challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := a.config.GetCertificate(hello)
	if err != nil {
		a.log.Debug("a challenge that nobody waits for", "host", hello.ServerName, "err", err)
		return nil, nil
	}
	return c, nil
}

// tell puts into the log what an operator has to know.
func (a *acme) tell(_ context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtained":
		a.log.Info("tunnels have a new certificate", "host", data["identifier"], "renewal", data["renewal"])
	case "cert_failed":
		a.log.Error("get a certificate", "host", data["identifier"], "err", data["error"])
	}
	return nil
}

func (a *acme) tidy(storage certmagic.Storage) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		options := certmagic.CleanStorageOptions{Logger: zap.NewNop(), ExpiredCerts: true, ExpiredCertGracePeriod: longPast}
		if err := certmagic.CleanStorage(a.ctx, storage, options); err != nil && a.ctx.Err() == nil {
			a.log.Warn("remove certificates that have expired", "err", err)
		}
		select {
		case <-tick.C:
		case <-a.ctx.Done():
			return
		}
	}
}
