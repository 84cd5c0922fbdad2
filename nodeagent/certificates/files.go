package certificates

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// files are a pair that an operator puts there, read again when either has changed. A
// pair that cannot be read or does not belong together leaves the earlier one in use: the
// two are rarely replaced in the same instant.
type files struct {
	unchallenged
	certificate, key string
	log              *slog.Logger

	mu      sync.Mutex // guards what follows
	looked  time.Time
	seen    *[2]state // when they were read
	current *tls.Certificate
}

// state of a file, by which a change is noticed; zero: there is none.
type state struct {
	device, inode uint64
	size          int64
	changed       unix.Timespec
}

func newFiles(certificate, key string, log *slog.Logger) *files {
	f := &files{certificate: certificate, key: key, log: log}
	f.look()
	return f
}

// Want changes nothing: what the pair is good for is in it.
func (f *files) Want(string) (release func()) { return func() {} }

// Get returns the pair if it is good for host.
func (f *files) Get(_ *tls.ClientHelloInfo, host string) (*tls.Certificate, error) {
	c := f.look()
	if c == nil || c.Leaf.VerifyHostname(host) != nil {
		return nil, nil
	}
	return c, nil
}

func (f *files) look() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) < lookEvery {
		return f.current
	}
	f.looked = time.Now()
	// Before they are read: what changes meanwhile is noticed the next time.
	now := [2]state{stateOf(f.certificate), stateOf(f.key)}
	if f.seen != nil && now == *f.seen {
		return f.current
	}
	first := f.seen == nil
	f.seen = &now
	pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
	if err != nil {
		f.log.Error("read the certificate of tunnels", "err", fmt.Errorf("%s, %s: %w", f.certificate, f.key, err), "earlier one in use", f.current != nil)
		return f.current
	}
	if !first {
		f.log.Info("tunnels have a new certificate", "until", pair.Leaf.NotAfter)
	}
	f.current = &pair
	return f.current
}

func stateOf(path string) state {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return state{}
	}
	return state{device: s.Dev, inode: s.Ino, size: s.Size, changed: s.Ctim}
}
