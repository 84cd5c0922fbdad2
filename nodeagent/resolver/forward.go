package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// tryTimeout leaves time for another upstream within the timeout of a question.
const tryTimeout = 2 * time.Second

var errNoUpstream = errors.New("no upstream resolver: set network.dns, or nameserver in /etc/resolv.conf")

// forward asks the upstreams in order until one answers. A truncated answer is
// passed on: the sandbox asks again over TCP, and so does forward then.
func (r *Resolver) forward(ctx context.Context, q *dns.Msg, overTCP bool) (*dns.Msg, error) {
	upstreams, err := r.cfg.Upstreams()
	if err != nil {
		return nil, err
	}
	if len(upstreams) == 0 {
		return nil, errNoUpstream
	}
	client := &dns.Client{Net: "udp", Timeout: tryTimeout, UDPSize: maxUDP}
	if overTCP {
		client.Net = "tcp"
	}
	var errs []error
	for _, upstream := range upstreams {
		asked := ask(q)
		answer, _, err := client.ExchangeContext(ctx, asked, upstream)
		if err == nil && !answers(answer, asked) {
			err = errors.New("the answer is to another question")
		}
		if err == nil {
			return rewrite(q, answer), nil
		}
		errs = append(errs, fmt.Errorf("ask %s: %w", upstream, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// ask copies of a sandbox's message what a resolver needs, under an id of its own.
func ask(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.Id = dns.Id()
	m.RecursionDesired = true
	m.CheckingDisabled = q.CheckingDisabled
	m.Question = []dns.Question{q.Question[0]}
	opt := q.IsEdns0()
	m.SetEdns0(maxUDP, opt != nil && opt.Do())
	return m
}

// answers tells whether m is an answer to q: a stray or forged packet may have the id.
func answers(m, q *dns.Msg) bool {
	return m.Response && len(m.Question) == 1 && strings.EqualFold(m.Question[0].Name, q.Question[0].Name) &&
		m.Question[0].Qtype == q.Question[0].Qtype && m.Question[0].Qclass == q.Question[0].Qclass
}

// rewrite makes an upstream's answer one to q.
func rewrite(q, answer *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, answer.Rcode)
	m.RecursionAvailable = true
	m.AuthenticatedData = answer.AuthenticatedData
	m.Truncated = answer.Truncated
	m.Answer, m.Ns = answer.Answer, answer.Ns
	for _, rr := range answer.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			m.Extra = append(m.Extra, rr)
		}
	}
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDP, opt.Do())
	}
	return m
}

// Upstreams returns what New needs: the configured resolvers, or else those of the
// resolv.conf at path, read anew each time, since they change with the network.
func Upstreams(configured []string, path string) func() ([]string, error) {
	if len(configured) > 0 {
		fixed := make([]string, len(configured))
		for i, s := range configured {
			fixed[i] = withPort(s)
		}
		return func() ([]string, error) { return fixed, nil }
	}
	return func() ([]string, error) {
		conf, err := dns.ClientConfigFromFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the node's resolvers: %w", err)
		}
		var servers []string
		for _, s := range conf.Servers {
			if s != Address.String() { // asking ourselves would never end
				servers = append(servers, net.JoinHostPort(s, conf.Port))
			}
		}
		return servers, nil
	}
}

func withPort(s string) string {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr, 53).String()
	}
	return s
}
