// Package netpolicy is the network policy of a sandbox as a value: what people
// write (Spec), what it means (Policy), and what it says of a packet (Verdict), the
// reference that the kernel's rules are tested against.
//
// The zero Policy admits nothing. A Spec is parsed as a whole or refused as a
// whole, with the entry named. Values only: no I/O, standard library only, safe for
// concurrent use.
package netpolicy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
)

// Limits of one list; more is an error before anything is parsed.
const (
	MaxEntries = 100_000
	MaxNames   = 1_000
)

// Policy is a compiled Spec. Its ranges are exact: what the never-list denies has
// been cut out, so a range that is in them may be reached.
type Policy struct {
	egress  egress
	ranges  []Range  // sorted, disjoint, not adjacent; for egressList alone
	names   []Name   // sorted; for egressList alone
	dns     dnsWish  //
	inbound *[]Range // nil: any source
	*digest          // nil: of policies without lists
}

// digest is what takes long to find out of a long list, found out once.
type digest struct {
	sum, hash string
	private   bool
}

// sealed is p with its digest.
func (p Policy) sealed() Policy {
	if len(p.ranges)+len(p.names) == 0 {
		return p
	}
	p.digest = &digest{sum: p.Sum(), hash: p.Hash(), private: p.NamesPrivate()}
	return p
}

type egress string

// The zero egress is a block.
const (
	egressBlock egress = ""
	egressList  egress = "list"
	egressOpen  egress = "open"
)

// dnsWish is what was written about DNS; the zero one leaves it to the rest.
type dnsWish string

const (
	dnsUnsaid   dnsWish = ""
	dnsOff      dnsWish = "off"
	dnsResolver dnsWish = "resolver"
)

// DNSMode is what the node's resolver does for a sandbox.
type DNSMode int

// The modes, each wider than the one before.
const (
	DNSOff      DNSMode = iota // it does not answer
	DNSNames                   // it answers for the names of the list
	DNSResolver                // it answers for every name: a way out for data, both ways
)

// String is for logs and errors.
func (m DNSMode) String() string { return [...]string{"off", "names", "resolver"}[m] }

// Open is the policy of a sandbox about which nothing was said: everything but the
// never-list, and DNS.
func Open() Policy { return Policy{egress: egressOpen} }

// Blocked tells whether the sandbox gets no network at all.
func (p Policy) Blocked() bool { return p.egress == egressBlock }

// IsOpen tells whether everything but the never-list may be reached.
func (p Policy) IsOpen() bool { return p.egress == egressOpen }

// Ranges that may be reached, IPv4 before IPv6; of a policy that is open or blocked
// there are none.
func (p Policy) Ranges() []Range { return slices.Clone(p.ranges) }

// Names that may be reached at the addresses they resolve to.
func (p Policy) Names() []Name { return slices.Clone(p.names) }

// NamesPrivate tells whether a range of the never-list is among the ranges.
func (p Policy) NamesPrivate() bool {
	if p.digest != nil {
		return p.private
	}
	return len(p.Private()) > 0
}

// Private are the parts of the never-list that are among the ranges.
func (p Policy) Private() (parts []Range) {
	for _, r := range p.ranges {
		parts = append(parts, intersect(r, never)...)
	}
	return parts
}

// Admits tells whether a connection to the port of host may be made by that name.
func (p Policy) Admits(host string, port uint16) bool {
	return slices.ContainsFunc(p.names, func(n Name) bool { return n.Port == port && n.Matches(host) })
}

// DNS is what the node's resolver does for the sandbox. A list of ranges has no DNS
// unless it was asked for: a resolver is a way out that the list does not name.
func (p Policy) DNS() DNSMode {
	switch {
	case p.Blocked() || p.dns == dnsOff:
		return DNSOff
	case len(p.names) > 0:
		return DNSNames
	case p.IsOpen() || p.dns == dnsResolver:
		return DNSResolver
	}
	return DNSOff
}

// AdmitsInbound tells whether src may connect to the sandbox's tunnels.
func (p Policy) AdmitsInbound(src netip.Addr) bool {
	if p.Blocked() {
		return false
	}
	return p.inbound == nil || contains(*p.inbound, src.Unmap())
}

// Sum names the whole policy, in hex: equal policies have equal sums.
func (p Policy) Sum() string {
	if p.digest != nil {
		return p.sum
	}
	return sum(p.Canonical())
}

// Hash of what the kernel's chains enforce, in hex: policies with equal hashes share
// them. Inbound is not part of it, because tunnels enforce that; nor are the names,
// whose addresses are pinned for each sandbox, nor DNS, which is too.
func (p Policy) Hash() string {
	if p.digest != nil {
		return p.hash
	}
	rules := Policy{egress: p.egress, ranges: p.ranges}.Canonical()
	if len(p.names) > 0 {
		rules = append(rules, "names"...)
	}
	return sum(rules)
}

func sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Packet from a sandbox, as far as a policy looks at it: any port, any protocol.
type Packet struct {
	Dst netip.Addr
}

// Verdict tells whether the packet may leave. It is the plain reference that the
// rules in the kernel must agree with, for destinations that are not the node's own
// and not pinned for a name.
func (p Policy) Verdict(packet Packet) bool {
	switch dst := packet.Dst; {
	case !dst.IsValid() || dst.Is4In6() || dst.Zone() != "":
		return false
	case p.egress == egressOpen:
		return !contains(never, dst)
	case p.egress == egressList:
		return contains(p.ranges, dst)
	default:
		return false
	}
}

// String is for logs and errors.
func (p Policy) String() string {
	switch {
	case p.IsOpen():
		return "open"
	case p.Blocked():
		return "block"
	case len(p.names) > 0:
		return fmt.Sprintf("%d ranges and %d names", len(p.ranges), len(p.names))
	}
	return fmt.Sprintf("%d ranges", len(p.ranges))
}
