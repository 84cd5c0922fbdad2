// Package resolver answers the DNS questions of sandboxes: it forwards them to the
// node's own resolvers, which sandboxes could not reach, since those often have
// private addresses. Who may ask is decided before a packet arrives here, by the
// node's rule set; the resolver itself trusts nobody and bounds everything: questions
// and connections at once, of all and of one sandbox, and the time of each.
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
	"time"

	"github.com/miekg/dns"
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

// Resolver forwards.
type Resolver struct {
	upstreams func() ([]string, error)
	gate      *gate
	log       *slog.Logger
}

// New returns a Resolver that asks the upstreams, as address:port, in order.
func New(upstreams func() ([]string, error), log *slog.Logger) *Resolver {
	return &Resolver{upstreams: upstreams, gate: newGate(maxAtOnce, maxOfSource), log: log}
}

// Serve answers on both sockets, which it closes, until ctx ends or one breaks.
func (r *Resolver) Serve(ctx context.Context, packets net.PacketConn, streams net.Listener) error {
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
	r.reply(w, q, r.answer(ctx, q, overTCP))
}

// answer never returns nil.
func (r *Resolver) answer(ctx context.Context, q *dns.Msg, overTCP bool) *dns.Msg {
	if code := judge(q); code != dns.RcodeSuccess {
		return failure(q, code)
	}
	if own := ownAnswer(q); own != nil {
		return own
	}
	answer, err := r.forward(ctx, q, overTCP)
	if err != nil {
		r.log.Debug("forward a question", "err", err)
		return failure(q, dns.RcodeServerFailure)
	}
	return answer
}

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
		r.log.Debug("answer a question", "err", err)
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
