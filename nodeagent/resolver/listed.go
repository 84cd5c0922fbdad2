package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"brig/internal/netpolicy"
)

// What a sandbox with a list of names is told.
const (
	maxAddresses = 16 // of one answer; the rest is left out
	minTTL       = 5 * time.Second
	maxTTL       = time.Hour
	// grace is how long an address stays pinned after its TTL: programs hold answers
	// for a while of their own (curl for 60 s), and connect some time after they ask.
	grace = 60 * time.Second
)

// errBudget: the sandbox asks for more than its budget of names.
var errBudget = errors.New("the sandbox asks for too many names of its own making")

// reboundError: all of a name's addresses were taken away.
type reboundError struct{ addr netip.Addr }

func (e *reboundError) Error() string {
	return fmt.Sprintf("the name leads to %s, which is private, reserved or the node's own", e.addr)
}

// listed answers a sandbox that may ask for the names of its list alone. The answer is
// made anew: the addresses at the end of the chain, under the name that was asked for.
// They are pinned before anybody is told.
func (r *Resolver) listed(ctx context.Context, s Sandbox, q *dns.Msg, overTCP bool) *dns.Msg {
	question := q.Question[0]
	host, ok := Hostname(question.Name)
	e, known := lookUp(s.Policy.Names(), host)
	if !ok || !known {
		return r.deny(s, q, netip.Addr{}, "the sandbox's policy does not list this name")
	}
	switch question.Qtype {
	case dns.TypeA:
	case dns.TypeAAAA:
		if !s.IPv6 {
			return empty(q)
		}
	case dns.TypeHTTPS, dns.TypeSVCB:
		// Every browser asks, and goes on with A. What it would be told leads round the
		// list: other names, other ports, keys that hide the name in the handshake.
		return empty(q)
	default:
		r.cfg.Denials.Denied(s.Link, "dns", host, netip.AddrPort{})
		return empty(q)
	}
	f, err := r.resolve(ctx, s, host, e, question.Qtype, overTCP)
	var rebound *reboundError
	switch {
	case errors.As(err, &rebound):
		return r.deny(s, q, rebound.addr, "the name leads to a private address")
	case errors.Is(err, errBudget):
		r.cfg.Denials.Denied(s.Link, "dns", host, netip.AddrPort{})
		return failure(q, dns.RcodeRefused)
	case err == nil && f.code != dns.RcodeSuccess:
		return failure(q, f.code)
	case err == nil:
		err = r.pin(ctx, s, e, f)
	}
	if err != nil {
		r.cfg.Log.Warn("answer for a listed name", "sandbox", s.Link, "err", err)
		return failure(q, dns.RcodeServerFailure)
	}
	return f.message(q)
}

// resolve asks the upstream resolvers for the addresses of a listed host that the
// sandbox may be led to, and remembers them. Nothing of the question but the host's
// name leaves the node, in one spelling: the case of letters could carry data.
func (r *Resolver) resolve(ctx context.Context, s Sandbox, host string, e entry, qtype uint16, overTCP bool) (found, error) {
	if e.long() || !r.accounts.spend(s, host, e.free) {
		return found{}, errBudget
	}
	q := new(dns.Msg).SetQuestion(dns.Fqdn(host), qtype)
	answer, err := r.forward(ctx, q, overTCP)
	if err != nil {
		return found{}, err
	}
	f := follow(answer, host, qtype)
	if f.truncated || f.code != dns.RcodeSuccess {
		f.addrs = nil // a truncated answer is asked for again over TCP
		return f, nil
	}
	all := slices.Clone(f.addrs)
	f.addrs = slices.DeleteFunc(f.addrs, func(addr netip.Addr) bool { return !r.Reachable(s, addr) })
	if len(f.addrs) == 0 && len(all) > 0 {
		return found{}, &reboundError{all[0]}
	}
	f.addrs = f.addrs[:min(len(f.addrs), maxAddresses)]
	if !r.accounts.tell(s, host, f.addrs, time.Now().Add(f.ttl+grace)) {
		return found{}, fmt.Errorf("the sandbox, or the node, has no room for more than %d addresses of names", maxTold)
	}
	for _, addr := range f.addrs {
		r.cfg.Learn(s.Link, addr, host)
	}
	return f, nil
}

// pin opens the addresses for the ports of the list. What the policy's own ranges admit
// is open already.
func (r *Resolver) pin(ctx context.Context, s Sandbox, e entry, f found) error {
	ttl := f.ttl + grace
	if s.Lasts > 0 {
		ttl = min(ttl, s.Lasts) // a pin must not outlive what it was given under
	}
	var pins []Pin
	for _, addr := range f.addrs {
		if s.Policy.Verdict(netpolicy.Packet{Dst: addr}) {
			continue
		}
		for _, port := range e.ports {
			pins = append(pins, Pin{Addr: addr, Port: port, TTL: ttl})
		}
	}
	due, ok := r.accounts.due(s, pins)
	if !ok {
		return fmt.Errorf("the sandbox, or the node, has no room for %d pins more", len(due))
	}
	if len(due) == 0 {
		return nil
	}
	if err := r.cfg.Pins.Pin(ctx, s.Link, s.Generation, due); err != nil {
		return err
	}
	r.accounts.pin(s, due)
	return nil
}

// deny answers in the way in which every client fails at once, and says why to those
// that can read it. It is not REFUSED: at that some wait for another answer until their
// time is over.
func (r *Resolver) deny(s Sandbox, q *dns.Msg, dst netip.Addr, why string) *dns.Msg {
	r.cfg.Denials.Denied(s.Link, "dns", nameOf(q), netip.AddrPortFrom(dst, 0))
	m := failure(q, dns.RcodeNameError)
	if q.IsEdns0() != nil {
		m.SetEdns0(maxUDP, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeFiltered, ExtraText: why}}
	}
	return m
}

// Addresses of host, which the policy must list: wanted first, then others that the
// sandbox was told. It is an error if wanted is not an address of that very name, as
// far as the sandbox was told, nor as far as the upstream resolvers say now; they are
// asked because a brigd that began anew has told nobody anything.
func (r *Resolver) Addresses(ctx context.Context, s Sandbox, host string, wanted netip.Addr) ([]netip.Addr, error) {
	e, ok := lookUp(s.Policy.Names(), host)
	if !ok {
		return nil, errors.New("the policy does not list the name")
	}
	addrs := r.accounts.addresses(s, host)
	if !slices.Contains(addrs, wanted) {
		qtype := dns.TypeA
		if wanted.Is6() {
			qtype = dns.TypeAAAA
		}
		if !r.accounts.admit(s, false) {
			return nil, errBudget
		}
		f, err := r.resolve(ctx, s, host, e, qtype, true)
		if err != nil {
			return nil, err
		}
		addrs = f.addrs
	}
	if !slices.Contains(addrs, wanted) {
		return nil, fmt.Errorf("%s is not an address of %s", wanted, host)
	}
	addrs = slices.DeleteFunc(addrs, func(addr netip.Addr) bool { return addr == wanted || !r.Reachable(s, addr) })
	return append([]netip.Addr{wanted}, addrs...), nil
}
