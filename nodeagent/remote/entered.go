package remote

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"brig/nodeagent/clock"
	"brig/nodeagent/socket"
)

// entered is a connection under TLS that ends with what it was let in by.
type entered struct {
	*socket.Conn
	state tls.ConnectionState
	timer *time.Timer
	gone  func(*entered)
}

// Close closes it and forgets it.
func (e *entered) Close() error {
	e.gone(e)
	return e.Conn.Close()
}

// keepOpen ends e when its certificates do.
func (l *Listener) keepOpen(e *entered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.timer = time.AfterFunc(time.Until(expiry(e.state)), func() { _ = e.Close() })
	l.open[e] = true
}

func (l *Listener) gone(e *entered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
	}
	delete(l.open, e)
}

// expiry is the earliest end of the chain that was verified.
func expiry(state tls.ConnectionState) time.Time {
	end := state.PeerCertificates[0].NotAfter
	for _, c := range state.VerifiedChains[0] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// keep looks at the files, and at who would not be let in any more. The looks are also
// what notices an end that came while the machine slept.
func (l *Listener) keep() {
	for l.ctx.Err() == nil {
		clock.Pause(l.ctx, reloadEvery)
		l.rejudge(l.files.look(l.log), time.Now())
	}
}

func (l *Listener) rejudge(roots *x509.CertPool, now time.Time) {
	l.mu.Lock()
	var ended []*entered
	for e := range l.open {
		if !verified(e.state, roots, now) {
			ended = append(ended, e)
		}
	}
	l.mu.Unlock()
	for _, e := range ended {
		l.log.Info("a remote caller's certificate is not valid any more", "principal", e.Caller().Principal)
		_ = e.Close()
	}
}

func verified(state tls.ConnectionState, roots *x509.CertPool, now time.Time) bool {
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}
