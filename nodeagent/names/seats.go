package names

import (
	"net/netip"
	"time"

	"brig/internal/netpolicy/nft"
	"brig/nodeagent/resolver"
)

// seats are the policies in force, from the node's book. It is read for each question:
// a page is small, and the book keeps the policies that it has read.
type seats struct {
	book nft.Book
	now  func() time.Duration // on the boot-time clock, by which leases end
}

// Of returns the sandbox that has the address, under the policy in force. Whatever
// cannot be read is no policy. Names lead to IPv4 alone, because pins are.
func (s seats) Of(source netip.Addr) (resolver.Sandbox, bool) {
	seat, err := s.book.ByAddress(source.Unmap())
	if err != nil {
		return resolver.Sandbox{}, false
	}
	now := s.now()
	grant := seat.InForce(now)
	if grant == nil {
		return resolver.Sandbox{}, false
	}
	sandbox := resolver.Sandbox{Link: seat.Link, Policy: grant.Policy, Generation: grant.Generation}
	if seat.Lease != nil && grant.Generation == seat.Lease.Generation {
		sandbox.Lasts = seat.Lease.Until - now
	}
	return sandbox, true
}
