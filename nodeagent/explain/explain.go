// Package explain tells what becomes of a connection of a sandbox, and by which rule,
// in words. A pure function of what is in the kernel: it sends nothing and asks nobody.
//
// The order is that of the node's rules: what is bound, the node's own addresses, the
// never-list, the policy. Where the words could differ from the rules, as for an entry
// of a list that was merged with others, netpolicy.Policy decides and the words follow.
package explain

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"brig/internal/netpolicy"
	"brig/nodeagent/standing"
)

// Verdict is what becomes of it. The zero value is deny.
type Verdict int

// The verdicts.
const (
	Deny Verdict = iota
	Allow
	// Unknown: it depends on the address that a name leads to.
	Unknown
)

// Question is about one connection.
type Question struct {
	// Addr or Host: an address or a name.
	Addr netip.Addr
	Host string
	// Port; 0: any.
	Port uint16
	// Protocol is tcp, udp or icmp.
	Protocol string
}

// Facts are what is known of the sandbox.
type Facts struct {
	standing.Live
	// Now is on the boot's clock.
	Now time.Duration
	// Spec of the policy in force, as it was written.
	Spec netpolicy.Spec
	// Resolver is where sandboxes find the node's.
	Resolver netip.Addr
	// NameOf is the name that an address was last resolved from, or empty.
	NameOf func(netip.Addr) string
}

// Answer to a Question.
type Answer struct {
	Verdict Verdict
	Rule    string // one line
	// Generation of the policy that decides; 0: none is bound.
	Generation uint64
}

// Explain answers q.
func Explain(q Question, f Facts) Answer {
	grant, bound := f.InForce(f.Now)
	a := Answer{Generation: grant.Generation}
	switch {
	case f.Difference != "":
		a.Rule = "the kernel's rules are not what is on record, so nothing is certain: " + f.Difference
	case !bound:
		a.Rule = "no policy bound"
	case grant.Policy.Blocked() || f.Spec.BlockNetwork:
		a.Rule = "block_network"
	case q.Host != "":
		a.Verdict, a.Rule = name(q, f, grant.Policy)
	default:
		a.Verdict, a.Rule = address(q, f, grant.Policy)
	}
	return a
}

// address follows the order of the rules.
func address(q Question, f Facts, p netpolicy.Policy) (Verdict, string) {
	addr := q.Addr.Unmap()
	if addr == f.Resolver && q.Port == dnsPort && q.Protocol != icmp {
		return resolver(p)
	}
	for _, own := range f.Node {
		if own == addr {
			return Deny, "node's own address"
		}
	}
	if addr.Is6() && !f.Addr6.IsValid() {
		return Deny, "the sandbox has no IPv6"
	}
	if p.Verdict(netpolicy.Packet{Dst: addr}) {
		if p.IsOpen() {
			return Allow, "open policy: any public address"
		}
		return Allow, entry(f.Spec.CIDRAllowlist, addr)
	}
	for _, r := range netpolicy.Never() {
		if r.From.BitLen() == addr.BitLen() && r.From.Compare(addr) <= 0 && addr.Compare(r.To) <= 0 {
			return Deny, "never-list " + text(r)
		}
	}
	if len(p.Names()) > 0 {
		return pinned(q, f, p, addr)
	}
	return Deny, "default deny: no entry of cidr_allowlist holds it"
}

const (
	dnsPort = 53
	tlsPort = 443
	icmp    = "icmp"
)

func resolver(p netpolicy.Policy) (Verdict, string) {
	switch p.DNS() {
	case netpolicy.DNSResolver:
		return Allow, "the node's resolver, for every name"
	case netpolicy.DNSNames:
		return Allow, "the node's resolver, for the names of domain_allowlist"
	}
	return Deny, "the policy has no DNS"
}

// entry names the first entry of a list that holds an address which the policy admits.
func entry(list *[]string, addr netip.Addr) string {
	if list != nil {
		for _, s := range *list {
			if p, err := netip.ParsePrefix(s); err == nil && p.Contains(addr) {
				return fmt.Sprintf("entry %s of cidr_allowlist", s)
			}
		}
	}
	return "cidr_allowlist"
}

// pinned answers for an address that can only be reached as what a name stands for.
func pinned(q Question, f Facts, p netpolicy.Policy, addr netip.Addr) (Verdict, string) {
	other := ""
	for _, pin := range f.Pins {
		switch {
		case pin.Addr != addr:
		case q.Protocol != "tcp":
			return Deny, "default deny: names admit TCP alone"
		case q.Port != 0 && pin.Port != q.Port:
			other = fmt.Sprintf("default deny: it is pinned for TCP port %d alone", pin.Port)
		default:
			return Allow, pinOf(p, f, pin)
		}
	}
	if other != "" {
		return Deny, other
	}
	return Deny, "default deny: no entry of cidr_allowlist holds it, and it is pinned for no name of domain_allowlist"
}

func pinOf(p netpolicy.Policy, f Facts, pin standing.Pin) string {
	words := fmt.Sprintf("a name of domain_allowlist, %s", left(pin))
	if host := f.NameOf(pin.Addr); host != "" {
		for _, n := range p.Names() {
			if n.Port == pin.Port && n.Matches(host) {
				words = fmt.Sprintf("name %s, %s (as %s)", n, left(pin), host)
				break
			}
		}
	}
	if pin.Port == tlsPort {
		words += "; TLS must ask for that name"
	}
	return words
}

func left(pin standing.Pin) string {
	return fmt.Sprintf("pinned %s for %.0f s more", pin.Addr, max(pin.Left, 0).Seconds())
}

// name answers for a host that is not an address.
func name(q Question, f Facts, p netpolicy.Policy) (Verdict, string) {
	switch p.DNS() {
	case netpolicy.DNSOff:
		return Deny, "the policy has no DNS, so no name is resolved; ask about an address"
	case netpolicy.DNSNames:
		return listed(q, f, p)
	}
	if p.IsOpen() {
		return Allow, "open policy: any name that leads to a public address"
	}
	return Unknown, "the node's resolver answers, and cidr_allowlist decides about the address that it gives; ask about that"
}

func listed(q Question, f Facts, p netpolicy.Policy) (Verdict, string) {
	var others []string
	for _, n := range p.Names() {
		if !n.Matches(q.Host) {
			continue
		}
		if q.Protocol != "tcp" {
			return Deny, fmt.Sprintf("entry %s of domain_allowlist admits TCP alone", n)
		}
		if n.Port != q.Port {
			others = append(others, fmt.Sprint(n.Port))
			continue
		}
		return Allow, fmt.Sprintf("entry %s of domain_allowlist, %s", n, pinsOf(q, f))
	}
	if len(others) > 0 {
		return Deny, fmt.Sprintf("domain_allowlist has this name for TCP port %s alone", strings.Join(others, ", "))
	}
	return Deny, "no entry of domain_allowlist is this name"
}

// pinsOf tells what the name leads to at present.
func pinsOf(q Question, f Facts) string {
	host := strings.ToLower(strings.TrimSuffix(q.Host, "."))
	var pins []string
	for _, pin := range f.Pins {
		if pin.Port == q.Port && strings.ToLower(strings.TrimSuffix(f.NameOf(pin.Addr), ".")) == host {
			pins = append(pins, left(pin))
		}
	}
	if len(pins) == 0 {
		return "not pinned now: it is when the sandbox asks the resolver for it"
	}
	return strings.Join(pins, ", ")
}

// text is a range as a CIDR, if it is one.
func text(r netpolicy.Range) string {
	for bits := range r.From.BitLen() + 1 {
		if p := netip.PrefixFrom(r.From, bits); p.Masked() == p && netpolicy.RangeOf(p) == r {
			return p.String()
		}
	}
	return r.String()
}
