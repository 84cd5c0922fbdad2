// Package standing is what stands for one sandbox's link: the policy in force, what it
// was set to for good, and until when a lease stands in for that. Values only.
//
// It is what the node has on record, and the kernel does by itself; brigd reads it and
// never decides it.
package standing

import (
	"net/netip"
	"time"

	"brig/internal/netpolicy"
)

// Grant is a policy and its generation: 1 is what the sandbox was made with, every
// change adds 1.
type Grant struct {
	Policy     netpolicy.Policy
	Generation uint64
}

// Lease is a Grant for a time.
type Lease struct {
	Grant
	// Until is when it ends, on the boot's clock.
	Until time.Duration
}

// Standing of a link. The zero value is deny.
type Standing struct {
	// Grant is for good; nil: no policy is bound.
	Grant *Grant
	// Lease stands in for it while it lasts; nil: there is none.
	Lease *Lease
}

// InForce is what stands at a time of the boot's clock; false: everything is denied.
func (s Standing) InForce(now time.Duration) (Grant, bool) {
	if l, ok := s.Leased(now); ok {
		return l.Grant, true
	}
	if s.Grant == nil {
		return Grant{}, false
	}
	return *s.Grant, true
}

// Leased is the lease in force at a time of the boot's clock.
func (s Standing) Leased(now time.Duration) (Lease, bool) {
	if s.Lease == nil || now >= s.Lease.Until {
		return Lease{}, false
	}
	return *s.Lease, true
}

// Pin is an address that stands for a name, as the kernel has it now.
type Pin struct {
	Addr netip.Addr
	Port uint16 // TCP
	Left time.Duration
}

// Live is what the kernel has now.
type Live struct {
	Standing
	// Difference says in words in what the kernel's rules are not what is on record;
	// empty: they are.
	Difference string
	Addr       netip.Addr
	Addr6      netip.Addr // the zero value if the sandbox has no IPv6
	// Node are the node's own addresses, which no sandbox reaches.
	Node []netip.Addr
	Pins []Pin
}
