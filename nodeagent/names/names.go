// Package names lets the sandboxes of a node reach what their policies list by name. It
// gives the resolver and the TLS proxy the book of the policies in force, the rules of
// the transit namespace and the node's own addresses, and keeps both at work there.
//
// The book decides, not brigd: a policy that anybody puts in force holds here from the
// next question on, and is looked at anew for live connections within two seconds.
package names

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"brig/internal/config"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
	"brig/nodeagent/network"
	"brig/nodeagent/resolver"
	"brig/nodeagent/sni"
)

// Options of a node. Dial, Addresses, Repair, Denials and Learn may be nil, everything else is
// needed.
type Options struct {
	Config *config.Config
	// Upstreams are the resolvers that are asked, as resolver.Upstreams returns them.
	Upstreams func() ([]string, error)
	// Dial connects from where the node's programs do; nil: from here.
	Dial func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error)
	// Addresses are those of the node's links; nil: of the links that are here.
	Addresses func() ([]netip.Addr, error)
	// Repair brings the node's network in order; nil: transit.Ensure does, from here.
	Repair  func(context.Context) error
	Denials resolver.Denials
	// Learn is told which address a sandbox was given for a name; nil: nobody is.
	Learn func(link string, addr netip.Addr, name string)
	Log   *slog.Logger
}

// Names of a node. Safe for concurrent use.
type Names struct {
	cfg      *config.Config
	resolver *resolver.Resolver
	proxy    *sni.Proxy
	pins     *pins
}

// New returns Names that answer nobody until Keep runs.
func New(o Options) *Names {
	if o.Dial == nil {
		o.Dial = sni.Dial
	}
	if o.Addresses == nil {
		o.Addresses = hostAddresses
	}
	if o.Repair == nil {
		o.Repair = func(ctx context.Context) error { return transit.Ensure(ctx, o.Config) }
	}
	n := &Names{cfg: o.Config, pins: newPins(o.Config, o.Repair)}
	policies := seats{transit.Records(o.Config), transit.Now}
	n.resolver = resolver.New(resolver.Config{
		Upstreams: o.Upstreams, Policies: policies, Pins: n.pins, Node: newOwn(o).has, Denials: o.Denials,
		Learn: o.Learn, Log: o.Log.With("component", "resolver"),
	})
	n.proxy = sni.New(sni.Config{
		Policies: policies, Names: n.resolver, Dial: o.Dial, Denials: o.Denials, Log: o.Log.With("component", "sni"),
	})
	return n
}

// Keep serves in the node's transit namespace until ctx ends.
func (n *Names) Keep(ctx context.Context) {
	at := func(port uint16) network.Transit {
		return network.Transit{Config: n.cfg, Address: netip.AddrPortFrom(resolver.Address, port)}
	}
	var wg sync.WaitGroup
	wg.Go(func() { n.pins.work(ctx) })
	wg.Go(func() { n.resolver.Keep(ctx, at(53)) })
	wg.Go(func() { n.proxy.Keep(ctx, at(nft.SNIPort)) })
	wg.Wait()
}

// Recheck resets the connections by name of the sandbox at link that its policy no
// longer admits. Whoever changes the policy calls it.
func (n *Names) Recheck(link string) { n.proxy.Recheck(link) }

// Stats of the connections by name.
func (n *Names) Stats() sni.Stats { return n.proxy.Stats() }
