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

// OpenRandom opens a tunnel on an unpredictable free port of cfg.Listen's address.
func OpenRandom(cfg Config) (*Tunnel, uint16, error) {
	for range 128 {
		n, err := rand.Int(rand.Reader, big.NewInt(lastPort-firstPort+1))
		if err != nil {
			return nil, 0, fmt.Errorf("choose a port: %w", err)
		}
		port := uint16(firstPort + n.Int64())
		cfg.Listen = netip.AddrPortFrom(cfg.Listen.Addr(), port)
		t, err := Open(cfg)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		return t, port, err
	}
	return nil, 0, fmt.Errorf("no free port of %s between %d and %d in 128 tries", cfg.Listen.Addr(), firstPort, lastPort)
}
