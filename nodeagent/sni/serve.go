package sni

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"brig/internal/netpolicy"
	"brig/nodeagent/resolver"
)

// refusal is why a connection is not led on.
type refusal struct {
	host string
	to   netip.AddrPort
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }

// serve owns client.
func (p *Proxy) serve(ctx context.Context, source netip.Addr, client *net.TCPConn) {
	// The end of serving interrupts whatever this is at.
	stop := context.AfterFunc(ctx, func() { reset(client) })
	defer stop()
	s, ok := p.cfg.Policies.Of(source)
	if !ok || s.Policy.DNS() != netpolicy.DNSNames {
		p.stats.refused.Add(1)
		reset(client)
		return
	}
	c, head, err := p.open(ctx, s, source, client)
	if err != nil {
		p.failed(s, err)
		reset(client)
		return
	}
	stopServer := context.AfterFunc(ctx, func() { reset(c.server) })
	defer stopServer()
	p.run(c, head)
}

func (p *Proxy) failed(s resolver.Sandbox, err error) {
	var refused *refusal
	if !errors.As(err, &refused) {
		p.stats.failed.Add(1)
		p.cfg.Log.Debug("connect for a sandbox", "sandbox", s.Link, "err", err)
		return
	}
	p.stats.refused.Add(1)
	p.cfg.Log.Debug("refuse a connection", "sandbox", s.Link, "name", refused.host, "err", err)
	p.cfg.Denials.Denied(s.Link, "sni", refused.host, refused.to)
}

// open decides, and connects to the server.
func (p *Proxy) open(ctx context.Context, s resolver.Sandbox, source netip.Addr, client *net.TCPConn) (*connection, []byte, error) {
	to, err := destination(client)
	if err != nil {
		return nil, nil, &refusal{err: err}
	}
	if to.Port() != tlsPort {
		return nil, nil, &refusal{to: to, err: errors.New("the connection was not sent here by the rule set")}
	}
	host, head, err := readHello(client)
	if errors.Is(err, errLeft) {
		return nil, nil, err // nothing was denied
	}
	if err != nil {
		return nil, nil, &refusal{to: to, err: err}
	}
	c := &connection{source: source, link: s.Link, host: host, to: to.Addr(), client: client}
	s, ok := p.cfg.Policies.Of(source) // anew: the client has taken its time
	if !ok || !c.admittedBy(s) {
		return nil, nil, &refusal{host: host, to: to, err: errors.New("the policy does not list the name")}
	}
	resolving, cancel := context.WithTimeout(ctx, resolveTimeout)
	addrs, err := p.cfg.Names.Addresses(resolving, s, host, to.Addr())
	cancel()
	if err != nil {
		return nil, nil, &refusal{host: host, to: to, err: err}
	}
	if c.server, err = p.dial(ctx, addrs); err != nil {
		return nil, nil, err
	}
	return c, head, nil
}

// dial tries the addresses in order. The sandbox's own connection stands already, so it
// would not try another one itself.
func (p *Proxy) dial(ctx context.Context, addrs []netip.Addr) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var errs []error
	for _, addr := range addrs {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		conn, err := p.cfg.Dial(try, netip.AddrPortFrom(addr, tlsPort))
		cancel()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}
