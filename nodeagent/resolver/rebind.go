package resolver

import (
	"net"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"brig/internal/netpolicy"
)

// Reachable tells whether an answer to the sandbox may hold addr: a public address, or
// one that its policy's own ranges name, but never one of the node's. A name that is
// made to point into a private network (rebinding) leads nowhere.
func (r *Resolver) Reachable(s Sandbox, addr netip.Addr) bool {
	if r.cfg.Node(addr) {
		return false
	}
	packet := netpolicy.Packet{Dst: addr}
	return netpolicy.Open().Verdict(packet) || s.Policy.Verdict(packet)
}

// address of a record; false for records that hold none. An IPv4 address that an AAAA
// record wraps stays wrapped, and is refused for it.
func address(rr dns.RR) (netip.Addr, bool) {
	var ip net.IP
	switch rr := rr.(type) {
	case *dns.A:
		ip = rr.A.To4()
	case *dns.AAAA:
		ip = rr.AAAA.To16()
	default:
		return netip.Addr{}, false
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr, true
}

// strip removes from an answer what the sandbox must not be led to. It returns the
// first address that was removed.
func (r *Resolver) strip(s Sandbox, m *dns.Msg) (removed netip.Addr, any bool) {
	clean := func(records []dns.RR) []dns.RR {
		return slices.DeleteFunc(records, func(rr dns.RR) bool {
			for _, addr := range addresses(rr) {
				if !r.Reachable(s, addr) {
					if !any {
						removed, any = addr, true
					}
					return true
				}
			}
			return false
		})
	}
	m.Answer, m.Ns, m.Extra = clean(m.Answer), clean(m.Ns), clean(m.Extra)
	if any {
		m.AuthenticatedData = false // of what is left, nobody vouches for the whole
	}
	return removed, any
}

// addresses of a record, those that a service binding only hints at included.
func addresses(rr dns.RR) []netip.Addr {
	if addr, ok := address(rr); ok {
		return []netip.Addr{addr}
	}
	var values []dns.SVCBKeyValue
	switch rr := rr.(type) {
	case *dns.SVCB:
		values = rr.Value
	case *dns.HTTPS:
		values = rr.Value
	}
	var addrs []netip.Addr
	for _, v := range values {
		switch v := v.(type) {
		case *dns.SVCBIPv4Hint:
			for _, ip := range v.Hint {
				addr, _ := netip.AddrFromSlice(ip.To4())
				addrs = append(addrs, addr)
			}
		case *dns.SVCBIPv6Hint:
			for _, ip := range v.Hint {
				addr, _ := netip.AddrFromSlice(ip.To16())
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs
}
