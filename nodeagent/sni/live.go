package sni

import (
	"context"
	"net"
	"net/netip"
	"time"

	"brig/internal/netpolicy"
	"brig/nodeagent/resolver"
)

// connection of a sandbox to a server that it named.
type connection struct {
	source         netip.Addr
	link, host     string
	to             netip.Addr
	client, server *net.TCPConn
}

func (c *connection) reset() {
	reset(c.client)
	reset(c.server)
}

// admittedBy tells whether s, as it is now, lets c be: by the name, or by its policy's
// own ranges, which a change may have widened.
func (c *connection) admittedBy(s resolver.Sandbox) bool {
	return s.Link == c.link && (s.Policy.Admits(c.host, tlsPort) || s.Policy.Verdict(netpolicy.Packet{Dst: c.to}))
}

// run passes on what was read and then copies both ways, unless the policy has changed
// since it was looked at: from here on a change finds c among the live ones.
func (p *Proxy) run(c *connection, head []byte) {
	p.mu.Lock()
	p.live[c] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.live, c)
		p.mu.Unlock()
	}()
	if s, ok := p.cfg.Policies.Of(c.source); !ok || !c.admittedBy(s) {
		p.stats.refused.Add(1)
		c.reset()
		return
	}
	n, err := c.server.Write(head)
	p.stats.sent.Add(uint64(n))
	if err != nil {
		c.reset()
		return
	}
	p.join(c)
}

// Recheck resets the connections of the sandbox at link that its policy no longer
// admits. Whoever changes a policy calls it; what others change is noticed within two
// seconds.
func (p *Proxy) Recheck(link string) {
	p.recheck(func(c *connection) bool { return c.link == link })
}

func (p *Proxy) recheckAlways(ctx context.Context) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.recheck(func(*connection) bool { return true })
		}
	}
}

func (p *Proxy) recheck(concerns func(*connection) bool) {
	of := map[netip.Addr][]*connection{}
	p.mu.Lock()
	for c := range p.live {
		if concerns(c) {
			of[c.source] = append(of[c.source], c)
		}
	}
	p.mu.Unlock()
	for source, list := range of {
		s, ok := p.cfg.Policies.Of(source)
		for _, c := range list {
			if !ok || !c.admittedBy(s) {
				p.stats.refused.Add(1)
				p.cfg.Denials.Denied(c.link, "sni", c.host, netip.AddrPortFrom(c.to, tlsPort))
				c.reset()
			}
		}
	}
}
