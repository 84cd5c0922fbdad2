package resolver

import (
	"context"
	"net/netip"
	"time"

	"brig/internal/netpolicy"
)

// Sandbox is who asks, under the policy in force at one instant.
type Sandbox struct {
	Link string // in the transit namespace
	// Policy that decides; the zero one answers nothing.
	Policy netpolicy.Policy
	// Generation grows with each change of the policy.
	Generation uint64
	// Lasts is how long the policy stays in force by itself; 0: until it is changed.
	Lasts time.Duration
	// IPv6 tells whether the sandbox has an address of that family.
	IPv6 bool
}

// Policies knows the sandboxes by the source addresses that the rule set lets them use.
type Policies interface {
	// Of returns false for an address without a sandbox, and for a sandbox without a
	// policy in force.
	Of(source netip.Addr) (Sandbox, bool)
}

// Pin lets new connections of a sandbox go to a port of an address.
type Pin struct {
	Addr netip.Addr
	Port uint16
	TTL  time.Duration
}

// Pins reaches the kernel.
type Pins interface {
	// Pin returns once the pins are in force, or with an error if nothing of them is.
	// It is an error if the sandbox's policy is no longer the generation that is given.
	Pin(ctx context.Context, link string, generation uint64, pins []Pin) error
}

// Denials is told what is refused, at most as often as it is asked for. It must not
// block.
type Denials interface {
	// Denied says that the sandbox at link did not get name, for the reason "dns" or
	// "sni". The name is "" if none was given; dst is zero where no address was in play.
	Denied(link, reason, name string, dst netip.AddrPort)
}

// Nobody is told.
type Nobody struct{}

// Denied does nothing.
func (Nobody) Denied(string, string, string, netip.AddrPort) {}
