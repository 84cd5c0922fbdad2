// Package netpolicy is the network policy of a sandbox as a value: what people
// write (Spec), what it means (Policy), and what it says of a packet (Verdict), the
// reference that the kernel's rules are tested against.
//
// The zero Policy admits nothing. A Spec is parsed as a whole or refused as a
// whole, with the entry named. Values only: no I/O, standard library only, safe for
// concurrent use.
//
// This version speaks IPv4; an IPv6 range in a list is refused, because the node
// drops IPv6 and the range would be an empty promise.
package netpolicy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
)

// MaxEntries of one list; more is an error before anything is parsed.
const MaxEntries = 100_000

// Policy is a compiled Spec. Its ranges are exact: what the never-list denies has
// been cut out, so a range that is in them may be reached.
type Policy struct {
	egress  egress
	ranges  []Range  // sorted, disjoint, not adjacent; for egressList alone
	inbound *[]Range // nil: any source
}

type egress string

// The zero egress is a block.
const (
	egressBlock egress = ""
	egressList  egress = "list"
	egressOpen  egress = "open"
)

// Open is the policy of a sandbox about which nothing was said: everything but the
// never-list, and DNS.
func Open() Policy { return Policy{egress: egressOpen} }

// Blocked tells whether the sandbox gets no network at all.
func (p Policy) Blocked() bool { return p.egress == egressBlock }

// IsOpen tells whether everything but the never-list may be reached.
func (p Policy) IsOpen() bool { return p.egress == egressOpen }

// Ranges that may be reached; of a policy that is open or blocked there are none.
func (p Policy) Ranges() []Range { return slices.Clone(p.ranges) }

// DNS tells whether the node's resolver answers the sandbox. A list has no DNS: a
// resolver is a way out that the list does not name.
func (p Policy) DNS() bool { return p.egress == egressOpen }

// AdmitsInbound tells whether src may connect to the sandbox's tunnels.
func (p Policy) AdmitsInbound(src netip.Addr) bool {
	if p.Blocked() {
		return false
	}
	return p.inbound == nil || contains(*p.inbound, src.Unmap())
}

// Hash of what the kernel enforces, in hex: policies with equal hashes share their
// rules. Inbound is not part of it, because tunnels enforce that.
func (p Policy) Hash() string {
	sum := sha256.Sum256(Policy{egress: p.egress, ranges: p.ranges}.Canonical())
	return hex.EncodeToString(sum[:])
}

// Packet from a sandbox, as far as a policy looks at it: any port, any protocol.
type Packet struct {
	Dst netip.Addr
}

// Verdict tells whether the packet may leave. It is the plain reference that the
// rules in the kernel must agree with, for destinations that are not the node's own.
func (p Policy) Verdict(packet Packet) bool {
	switch dst := packet.Dst; {
	case !dst.Is4():
		return false
	case p.egress == egressOpen:
		return !contains(Never(), dst)
	case p.egress == egressList:
		return contains(p.ranges, dst)
	default:
		return false
	}
}

// String is for logs and errors.
func (p Policy) String() string {
	switch p.egress {
	case egressOpen:
		return "open"
	case egressList:
		return fmt.Sprintf("%d ranges", len(p.ranges))
	default:
		return "block"
	}
}
