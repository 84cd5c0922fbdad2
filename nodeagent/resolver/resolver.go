// Package resolver answers the DNS questions of sandboxes, each under the policy of the
// sandbox that asks: the rule set proves whose a source address is. A sandbox without
// DNS is refused. One with a list of names is told the addresses of those names and
// nothing else, and each address is open to it before it is told. For every other one
// the resolver forwards to the node's own resolvers, which sandboxes could not reach,
// since those often have private addresses.
//
// In no mode is a sandbox told an address that is private, reserved or the node's,
// unless its policy's own ranges name it. The resolver trusts nobody and bounds
// everything: questions and connections at once, questions per second, the octets that
// a sandbox may choose under a wildcard, addresses, memory, and the time of each answer.
//
// What it sends upstream is a question of its own making, never the bytes of a
// sandbox. It keeps no cache: an answer to one sandbox tells nothing to another.
package resolver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"brig/internal/netpolicy"
)

// Address is where sandboxes find the resolver.
var Address = netip.MustParseAddr("169.254.1.1")

// Name is the resolver's own, which it answers without asking anybody: a node's
// check can resolve it without the internet.
const Name = "resolver.brig.internal."

const (
	maxAtOnce   = 512 // of all sandboxes
	maxOfSource = 64  // of one
	timeout     = 5 * time.Second
	maxUDP      = 1232 // bytes that pass everywhere unfragmented
)

// Config of a resolver. Denials may be nil, everything else is needed.
type Config struct {
	// Upstreams are asked in order, as address:port.
	Upstreams func() ([]string, error)
	Policies  Policies
	Pins      Pins
	// Node tells the node's own addresses.
	Node    func(netip.Addr) bool
	Denials Denials
	// Learn is told, for people to read, which address a sandbox was given for a name. It
	// must not block; nil: nobody is.
	Learn func(link string, addr netip.Addr, name string)
	Log   *slog.Logger
}

// Resolver answers. Safe for concurrent use.
type Resolver struct {
	cfg      Config
	gate     *gate
	accounts *accounts
}

// New returns a Resolver that knows of nobody yet.
func New(cfg Config) *Resolver {
	if cfg.Denials == nil {
		cfg.Denials = Nobody{}
	}
	if cfg.Learn == nil {
		cfg.Learn = func(string, netip.Addr, string) {}
	}
	return &Resolver{cfg: cfg, gate: newGate(maxAtOnce, maxOfSource), accounts: newAccounts()}
}

// Serve answers on both sockets, which it closes, until ctx ends or one breaks.
func (r *Resolver) Serve(ctx context.Context, packets net.PacketConn, streams net.Listener) error {
	makeRoom(packets)
	udp := &dns.Server{PacketConn: packets, Handler: r, UDPSize: maxUDP}
	tcp := &dns.Server{Listener: &bounded{Listener: streams, gate: newGate(maxConnections, maxConnsOfOne)}, Handler: r, ReadTimeout: timeout, WriteTimeout: timeout, MaxTCPQueries: 64}
	ended := make(chan error, 2)
	for _, s := range []*dns.Server{udp, tcp} {
		go func() { ended <- s.ActivateAndServe() }()
	}
	select {
	case <-ctx.Done():
	case broke := <-ended:
		ended <- broke
	}
	// Closed under the servers: their Shutdown refuses one that has not begun yet.
	err := errors.Join(packets.Close(), streams.Close())
	for range 2 {
		err = errors.Join(err, <-ended)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errors.New("the resolver's socket broke"), err)
}

// ServeDNS answers one question.
func (r *Resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	source := addrOf(w.RemoteAddr())
	if !r.gate.enter(source) {
		r.reply(w, q, failure(q, dns.RcodeRefused))
		return
	}
	defer r.gate.leave(source)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	r.reply(w, q, r.answer(ctx, source, q, overTCP))
}

// answer never returns nil.
func (r *Resolver) answer(ctx context.Context, source netip.Addr, q *dns.Msg, overTCP bool) *dns.Msg {
	s, ok := r.cfg.Policies.Of(source)
	mode := s.Policy.DNS()
	if !ok || mode == netpolicy.DNSOff {
		return failure(q, dns.RcodeRefused)
	}
	if !r.accounts.admit(s, mode == netpolicy.DNSResolver) {
		r.cfg.Denials.Denied(s.Link, "dns", nameOf(q), netip.AddrPort{})
		return failure(q, dns.RcodeRefused)
	}
	if code := judge(q); code != dns.RcodeSuccess {
		return failure(q, code)
	}
	if own := ownAnswer(q); own != nil {
		return own
	}
	switch mode {
	case netpolicy.DNSNames:
		return r.listed(ctx, s, q, overTCP)
	case netpolicy.DNSResolver:
		return r.any(ctx, s, q, overTCP)
	}
	return failure(q, dns.RcodeRefused) // a mode that is not known here
}

// any answers a sandbox that may ask for everything.
func (r *Resolver) any(ctx context.Context, s Sandbox, q *dns.Msg, overTCP bool) *dns.Msg {
	answer, err := r.forward(ctx, q, overTCP)
	if err != nil {
		r.cfg.Log.Debug("forward a question", "err", err)
		return failure(q, dns.RcodeServerFailure)
	}
	removed, stripped := r.strip(s, answer)
	if stripped && !slices.ContainsFunc(answer.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q.Question[0].Qtype }) {
		return r.deny(s, q, removed, "the name leads to a private address")
	}
	if f := follow(answer, hostOf(q), q.Question[0].Qtype); f.code == dns.RcodeSuccess {
		for _, addr := range f.addrs[:min(len(f.addrs), maxAddresses)] {
			r.cfg.Learn(s.Link, addr, hostOf(q))
		}
	}
	return answer
}

// hostOf a question, as people write it.
func hostOf(q *dns.Msg) string { return strings.ToLower(strings.TrimSuffix(q.Question[0].Name, ".")) }

func (r *Resolver) reply(w dns.ResponseWriter, q, m *dns.Msg) {
	size := dns.MaxMsgSize
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(dns.MinMsgSize, min(maxUDP, int(opt.UDPSize())))
		}
	}
	m.Truncate(size)
	if err := w.WriteMsg(m); err != nil {
		r.cfg.Log.Debug("answer a question", "err", err)
	}
}

func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
