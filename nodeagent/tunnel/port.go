package tunnel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"syscall"
)

// Ports of tunnels are below the range from which kernels take the ports of outgoing
// connections, so that a port is still free when brigd comes back to it.
const (
	firstPort = 20000
	lastPort  = 32767
)

// Claim has a port belong to a tunnel until Drop, also while nothing listens there: who
// was told of it must not meet another sandbox. It is false if the port has an owner.
func (p *Pool) Claim(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ports[port] {
		return false
	}
	p.ports[port] = true
	return true
}

// Drop undoes Claim.
func (p *Pool) Drop(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ports, port)
}

// OpenRandom opens a tunnel on an unpredictable free port of cfg.Listen's address, and
// claims it.
func (p *Pool) OpenRandom(cfg Config) (*Tunnel, uint16, error) {
	for range 128 {
		n, err := rand.Int(rand.Reader, big.NewInt(lastPort-firstPort+1))
		if err != nil {
			return nil, 0, fmt.Errorf("choose a port: %w", err)
		}
		port := uint16(firstPort + n.Int64())
		if !p.Claim(port) {
			continue
		}
		cfg.Listen = netip.AddrPortFrom(cfg.Listen.Addr(), port)
		t, err := Open(cfg)
		if err == nil {
			return t, port, nil
		}
		p.Drop(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, 0, err
		}
	}
	return nil, 0, fmt.Errorf("no free port of %s between %d and %d in 128 tries", cfg.Listen.Addr(), firstPort, lastPort)
}
