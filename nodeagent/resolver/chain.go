package resolver

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// maxChain bounds the CNAMEs from a name to its addresses.
const maxChain = 16

// found is what the upstream resolvers say of one name.
type found struct {
	code      int // RcodeSuccess also where the name has no address
	truncated bool
	addrs     []netip.Addr
	ttl       time.Duration // the shortest on the way
}

// follow reads the addresses of the type asked for at the end of the chain that begins
// at name. Records about other names are not looked at, wherever they stand.
func follow(answer *dns.Msg, name string, qtype uint16) found {
	f := found{code: answer.Rcode, truncated: answer.Truncated, ttl: maxTTL}
	owner := dns.CanonicalName(name)
	for range maxChain {
		next := f.alias(answer.Answer, owner)
		if next == "" {
			break
		}
		owner = next
	}
	for _, rr := range answer.Answer {
		if rr.Header().Rrtype != qtype || rr.Header().Class != dns.ClassINET || dns.CanonicalName(rr.Header().Name) != owner {
			continue
		}
		if addr, ok := address(rr); ok && !slices.Contains(f.addrs, addr) {
			f.addrs = append(f.addrs, addr)
			f.shorten(rr)
		}
	}
	f.ttl = max(f.ttl, minTTL)
	return f
}

// alias returns what the owner is a CNAME of, or "".
func (f *found) alias(records []dns.RR, owner string) string {
	for _, rr := range records {
		if c, ok := rr.(*dns.CNAME); ok && c.Hdr.Class == dns.ClassINET && dns.CanonicalName(c.Hdr.Name) == owner {
			f.shorten(rr)
			return dns.CanonicalName(c.Target)
		}
	}
	return ""
}

func (f *found) shorten(rr dns.RR) {
	f.ttl = min(f.ttl, time.Duration(rr.Header().Ttl)*time.Second)
}

// message is the answer to q: the addresses, under the very name that was asked for.
func (f found) message(q *dns.Msg) *dns.Msg {
	m := empty(q)
	m.Truncated = f.truncated
	for _, addr := range f.addrs {
		header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: uint32(f.ttl / time.Second)}
		if addr.Is4() {
			m.Answer = append(m.Answer, &dns.A{Hdr: header, A: addr.AsSlice()})
		} else {
			header.Rrtype = dns.TypeAAAA
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header, AAAA: addr.AsSlice()})
		}
	}
	return m
}
