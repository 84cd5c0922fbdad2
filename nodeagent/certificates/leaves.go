package certificates

import (
	"crypto/tls"
	"sync"
	"time"
)

// leaves are signed when they are first asked for, and again when a third of their life
// is left. One is kept for every host that is wanted, and for no other.
type leaves struct {
	unchallenged
	sign func(host string) (*tls.Certificate, error)

	mu  sync.Mutex // guards what follows
	all map[string]*leaf
}

type leaf struct {
	wanted int // guarded by the leaves' mu

	mu      sync.Mutex // guards current, and makes others wait for it
	current *tls.Certificate
}

func newLeaves(sign func(host string) (*tls.Certificate, error)) *leaves {
	return &leaves{sign: sign, all: map[string]*leaf{}}
}

func (l *leaves) Want(host string) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[host] == nil {
		l.all[host] = &leaf{}
	}
	l.all[host].wanted++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.all[host].wanted--; l.all[host].wanted == 0 {
			delete(l.all, host)
		}
	})
}

func (l *leaves) Get(_ *tls.ClientHelloInfo, host string) (*tls.Certificate, error) {
	l.mu.Lock()
	one := l.all[host]
	l.mu.Unlock()
	if one == nil {
		return nil, nil
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if fresh(one.current) {
		return one.current, nil
	}
	signed, err := l.sign(host)
	if err != nil {
		return nil, err
	}
	one.current = signed
	return signed, nil
}

// fresh tells whether more than a third of a certificate's life is left.
func fresh(c *tls.Certificate) bool {
	if c == nil {
		return false
	}
	life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
	return time.Until(c.Leaf.NotAfter) > life/3
}
