// Package nft is a node's rule set in the kernel. It alone speaks nftables.
//
// A rule set is a value first (table): rendered as text for people and golden files,
// loaded by netlink in one transaction, so that no packet meets half of it, and read
// back from the kernel and compared, statement by statement and element by element,
// before anybody relies on it.
//
// The rules stand in the transit namespace, tables inet brig and arp brig, and fail
// closed: base chains drop, and a packet of a sandbox passes only because a map leads
// from its link to the chain of its policy. Policies are named by their hash and
// shared; the kernel itself knows whether anybody still refers to one. A second table,
// in the host's namespace, does source NAT and shields the node's own services. Foreign
// tables are never touched.
//
// What the rules should be stands in a Book, which is written first. Who changes the rules
// holds the node's network lock. The kernel counts the changes of
// a namespace's rules; after each of its own, Rules keeps that number in a file. As long
// as it is the kernel's number, nobody else has changed anything and what was compared
// before holds still. When it is not, everything is read and compared again.
package nft

import (
	"net/netip"
	"time"

	"brig/internal/netpolicy"
)

// LinkPrefix begins the name of every sandbox's link in the transit namespace.
const LinkPrefix = "brg"

// Gateway is the address that sandboxes have as gateway and resolver, Gateway6 their
// gateway of IPv6.
const (
	Gateway  = "169.254.1.1"
	Gateway6 = "fe80::1"
)

// SNIPort is where, at Gateway, connections to pinned addresses arrive.
const SNIPort = 8443

// LogGroup is where the transit namespace's nflog has what was denied. The prefix is
// LogPrefix and the reason.
const (
	LogGroup  = 7811
	LogPrefix = "brig/"
)

// Binding is who a sandbox is on the wire.
type Binding struct {
	Link  string     `json:"link"` // in the transit namespace
	MAC   string     `json:"mac"`  // as net.HardwareAddr writes it
	Addr  netip.Addr `json:"addr"`
	Addr6 netip.Addr `json:"addr6"` // invalid: no IPv6
}

// Grant is a policy in force. Its generation is 1 for the one that the sandbox was made
// with, and one more for each change.
type Grant struct {
	Policy     netpolicy.Policy `json:"policy"`
	Generation uint64           `json:"generation"`
}

// Lease is a grant that stands in for another until a moment on the boot-time clock.
type Lease struct {
	Grant
	Until time.Duration `json:"until"`
}

// Seat is all that the rules have of one sandbox.
type Seat struct {
	Binding
	// First is the sum of the policy that the sandbox was made with; "": it has none yet.
	First string `json:"first,omitempty"`
	Grant *Grant `json:"grant,omitempty"` // nil: deny
	Lease *Lease `json:"lease,omitempty"` // while it lasts it replaces Grant
}

// InForce is the grant that decides at a moment of the boot-time clock; nil: deny.
func (s Seat) InForce(now time.Duration) *Grant {
	if s.Lease != nil && now < s.Lease.Until {
		return &s.Lease.Grant
	}
	return s.Grant
}
