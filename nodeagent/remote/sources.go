package remote

import (
	"net"
	"net/netip"
	"sync"
)

// sources counts handshakes by where they come from: an address of IPv4, a /64 of IPv6.
// Nobody is known yet, so this is all there is to be fair by; the rule is that of package
// admission.
type sources struct {
	total int

	mu  sync.Mutex // guards what follows
	all int
	one map[netip.Prefix]int
}

func newSources(total int) *sources { return &sources{total: total, one: map[netip.Prefix]int{}} }

func (s *sources) enter(from net.Addr) (leave func(), ok bool) {
	source := sourceOf(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.one[source] >= s.total-s.all {
		return nil, false
	}
	s.all++
	s.one[source]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.one[source]--; s.one[source] == 0 {
			delete(s.one, source)
		}
	}, true
}

func sourceOf(from net.Addr) netip.Prefix {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the zero value for what is no address: all of those count as one
	return p
}
