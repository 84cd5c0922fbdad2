package netpolicy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestWithinEdges: what a look at the lists alone would get wrong.
func TestWithinEdges(t *testing.T) {
	private := Ceiling{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}}
	everywhere := Spec{CIDRAllowlist: list("0.0.0.0/0", "::/0")}
	everywhereDNS := Spec{CIDRAllowlist: list("0.0.0.0/0", "::/0"), DNS: "resolver"}
	for _, tc := range []struct {
		name     string
		spec, by Spec
		want     bool
	}{
		{"open is no wider than all that is public, but for DNS", Spec{}, everywhere, false},
		{"the same with DNS", Spec{}, everywhereDNS, true},
		{"without IPv6", Spec{}, Spec{CIDRAllowlist: list("0.0.0.0/0"), DNS: "resolver"}, false},
		{"all that is public is no wider than open", everywhere, Spec{}, true},
		{"open does not reach what is private", Spec{CIDRAllowlist: list("10.20.1.0/24")}, Spec{}, false},
		{"named by both", Spec{CIDRAllowlist: list("10.20.1.0/24")}, Spec{CIDRAllowlist: list("10.20.0.0/16")}, true},
		{"nothing out is no block: it has tunnels", Spec{CIDRAllowlist: list()}, Spec{BlockNetwork: true}, false},
		{"block under block", Spec{BlockNetwork: true}, Spec{BlockNetwork: true}, true},
		{"block under a list of nothing", Spec{BlockNetwork: true}, Spec{CIDRAllowlist: list()}, true},
		{"a range that two make together", Spec{CIDRAllowlist: list("203.0.113.0/24")}, Spec{CIDRAllowlist: list("203.0.113.0/25", "203.0.113.128/25")}, true},
		{"one address is missing", Spec{CIDRAllowlist: list("203.0.113.0/24")}, Spec{CIDRAllowlist: list("203.0.113.0/25", "203.0.113.129/32", "203.0.113.130/31", "203.0.113.132/30", "203.0.113.136/29", "203.0.113.144/28", "203.0.113.160/27", "203.0.113.192/26")}, false},
		{"the last of IPv4 and the first of IPv6 are no neighbours", Spec{CIDRAllowlist: list("2000::/128")}, Spec{CIDRAllowlist: list("223.255.255.0/24", "2000::1/128")}, false},
		{"every question under some names", Spec{CIDRAllowlist: list(), DNS: "resolver"}, Spec{DomainAllowlist: list("example.com")}, false},
		{"no question under some names", Spec{CIDRAllowlist: list()}, Spec{DomainAllowlist: list("example.com")}, true},
		{"names under a list without DNS", Spec{DomainAllowlist: list("example.com")}, everywhere, false},
		{"names under all that is public with DNS", Spec{DomainAllowlist: list("example.com:8443")}, everywhereDNS, true},
		{"names under a part of it with DNS", Spec{DomainAllowlist: list("example.com")}, Spec{CIDRAllowlist: list("203.0.113.0/24"), DNS: "resolver"}, false},
		{"names under open without DNS", Spec{DomainAllowlist: list("example.com")}, Spec{DNS: "off"}, false},
		{"another port", Spec{DomainAllowlist: list("example.com:8443")}, Spec{DomainAllowlist: list("example.com")}, false},
		{"a star under its parent", Spec{DomainAllowlist: list("*.example.com")}, Spec{DomainAllowlist: list("example.com")}, false},
		{"a parent under its star", Spec{DomainAllowlist: list("example.com")}, Spec{DomainAllowlist: list("*.example.com")}, false},
		{"a deeper star", Spec{DomainAllowlist: list("*.a.example.com", "b.example.com")}, Spec{DomainAllowlist: list("*.example.com")}, true},
		{"another name that ends alike", Spec{DomainAllowlist: list("badexample.com")}, Spec{DomainAllowlist: list("*.example.com", "example.com")}, false},
		{"all clients under some", Spec{}, Spec{InboundCIDRAllowlist: list("0.0.0.0/0")}, false},
		{"all clients under all that are written", Spec{}, Spec{InboundCIDRAllowlist: list("0.0.0.0/0", "::/0")}, true},
		{"some clients under all", Spec{InboundCIDRAllowlist: list("192.168.0.0/16")}, Spec{}, true},
	} {
		p, by := compiled(t, tc.spec, private), compiled(t, tc.by, private)
		if got := p.Within(by); got != tc.want {
			t.Errorf("%s: %s within %s: %t", tc.name, p.Canonical(), by.Canonical(), got)
		}
	}
}

// TestCeiling: what an annotation says, what the operator's default and ceiling make of
// it, or the line that says what the ceiling is.
func TestCeiling(t *testing.T) {
	few := Spec{CIDRAllowlist: list("203.0.113.0/24", "2a00::/32"), DomainAllowlist: list("*.example.com"), InboundCIDRAllowlist: list("127.0.0.0/8")}
	narrow := Spec{CIDRAllowlist: list("203.0.113.0/28"), InboundCIDRAllowlist: list("127.0.0.1/32")}
	for _, tc := range []struct {
		name           string
		spec           Spec
		standard, most *Spec
		want, err      string
	}{
		{name: "nothing at all", want: `{"egress":"open"}`},
		{name: "nothing said: the default", standard: &narrow, most: &few, want: `{"egress":"list","ranges":["203.0.113.0-203.0.113.15"],"inbound":["127.0.0.1-127.0.0.1"]}`},
		{name: "less than the ceiling, more than the default", spec: Spec{CIDRAllowlist: list("203.0.113.0/25")}, standard: &narrow, most: &few,
			want: `{"egress":"list","ranges":["203.0.113.0-203.0.113.127"],"inbound":["127.0.0.1-127.0.0.1"]}`},
		{name: "inbound alone opens no outbound", spec: Spec{InboundCIDRAllowlist: list()}, standard: &narrow,
			want: `{"egress":"list","ranges":["203.0.113.0-203.0.113.15"],"inbound":[]}`},
		{name: "DNS alone opens no outbound", spec: Spec{DNS: "off"}, standard: &narrow,
			want: `{"egress":"list","ranges":["203.0.113.0-203.0.113.15"],"dns":"off","inbound":["127.0.0.1-127.0.0.1"]}`},
		{name: "block under a default with inbound", spec: Spec{BlockNetwork: true}, standard: &narrow, most: &few, want: `{"egress":""}`},
		{name: "a default that blocks", standard: &Spec{BlockNetwork: true}, want: `{"egress":""}`},
		{name: "a list under a default that blocks", spec: Spec{CIDRAllowlist: list("203.0.113.0/28")}, standard: &Spec{BlockNetwork: true},
			want: `{"egress":"list","ranges":["203.0.113.0-203.0.113.15"]}`},
		{name: "a range beyond", spec: Spec{CIDRAllowlist: list("203.0.113.0/25", "198.51.100.0/24")}, standard: &narrow, most: &few,
			err: "198.51.100.0-198.51.100.255 is more than this node permits (203.0.113.0-203.0.113.255, 2a00::-2a00:0:ffff:ffff:ffff:ffff:ffff:ffff; *.example.com; dns names; tunnels' clients 127.0.0.0-127.255.255.255): ask for less, or the operator for more (network.ceiling in the node's configuration)"},
		{name: "a name beyond", spec: Spec{DomainAllowlist: list("a.example.com", "example.org")}, standard: &narrow, most: &few, err: "example.org is more than this node permits ("},
		{name: "DNS beyond", spec: Spec{CIDRAllowlist: list(), DNS: "resolver"}, standard: &narrow, most: &few, err: "dns for every name is more than this node permits ("},
		{name: "clients beyond", spec: Spec{CIDRAllowlist: list(), InboundCIDRAllowlist: list("0.0.0.0/0")}, most: &few, err: "tunnels' client 0.0.0.0-255.255.255.255 is more than"},
		{name: "open beyond", spec: Spec{}, standard: &Spec{}, most: &few, err: "all of the internet is more than this node permits ("},
		{name: "anything under a block", spec: Spec{CIDRAllowlist: list()}, most: &Spec{BlockNetwork: true}, err: "a network is more than this node permits (no network)"},
		{name: "block under a block", spec: Spec{BlockNetwork: true}, most: &Spec{BlockNetwork: true}, want: `{"egress":""}`},
	} {
		ceiling := Ceiling{Default: tc.standard}
		if tc.most != nil {
			most := compiled(t, *tc.most, Ceiling{})
			ceiling.Max = &most
		}
		p, err := Compile(tc.spec, ceiling)
		switch {
		case tc.err == "" && (err != nil || string(p.Canonical()) != tc.want):
			t.Errorf("%s: %s, %v\nwanted %s", tc.name, p.Canonical(), err, tc.want)
		case tc.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.err) || !p.Blocked()):
			t.Errorf("%s: %s, %v\nwanted %s", tc.name, p.Canonical(), err, tc.err)
		}
	}
}

func compiled(t *testing.T, s Spec, c Ceiling) Policy {
	t.Helper()
	p, err := Compile(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// witness of p admitting what ceiling does not, found by asking both about every place
// where an answer can change; "" if there is none.
func witness(p, ceiling Policy) string {
	for _, a := range edges(p, ceiling) {
		if p.Verdict(Packet{a}) && !ceiling.Verdict(Packet{a}) {
			return "packet to " + a.String()
		}
		if p.AdmitsInbound(a) && !ceiling.AdmitsInbound(a) {
			return "client " + a.String()
		}
	}
	if p.DNS() == DNSResolver && ceiling.DNS() != DNSResolver {
		return "question for anything"
	}
	all := ceiling.DNS() == DNSResolver && !slices.ContainsFunc(edges(p, ceiling), func(a netip.Addr) bool {
		return Open().Verdict(Packet{a}) && !ceiling.Verdict(Packet{a})
	})
	for _, n := range p.names {
		for _, host := range []string{n.Pattern, strings.Replace(n.Pattern, "*", "x", 1), strings.Replace(n.Pattern, "*", "x.y", 1), strings.TrimPrefix(n.Pattern, "*.")} {
			if p.Admits(host, n.Port) && !ceiling.Admits(host, n.Port) && !all {
				return fmt.Sprint("name ", host, ":", n.Port)
			}
		}
	}
	return ""
}

func edges(policies ...Policy) []netip.Addr {
	ranges := slices.Concat(never, everything)
	for _, p := range policies {
		ranges = slices.Concat(ranges, p.ranges, p.clients())
	}
	var all []netip.Addr
	for _, r := range ranges {
		all = append(all, r.From, r.To, r.From.Prev(), r.To.Next())
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return !a.IsValid() })
}

// randomSpec draws from few values, so that policies often meet.
func randomSpec(random *rand.Rand) Spec {
	cidrs := func() *[]string {
		var all []string
		for range random.IntN(5) {
			if random.IntN(4) == 0 {
				p, _ := netip.AddrFrom16([16]byte{0x2a, byte(random.IntN(4)), 15: byte(random.IntN(256))}).Prefix([]int{3, 16, 120, 124, 128}[random.IntN(5)])
				all = append(all, p.String())
				continue
			}
			p, _ := netip.AddrFrom4([4]byte{203, 0, 113, byte(random.IntN(256))}).Prefix([]int{0, 8, 24, 25, 26, 27, 32}[random.IntN(7)])
			all = append(all, p.String())
		}
		if random.IntN(6) == 0 {
			all = append(all, "0.0.0.0/0", "::/0")
		}
		return list(all...)
	}
	var s Spec
	if random.IntN(8) == 0 {
		return Spec{BlockNetwork: true}
	}
	if random.IntN(2) == 0 {
		s.CIDRAllowlist = cidrs()
	}
	if random.IntN(3) == 0 {
		names := []string{"example.com", "*.example.com", "a.example.com", "*.a.example.com", "x.org:8443", "example.com:8443"}
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		s.DomainAllowlist = list(names[:random.IntN(4)]...)
	} else {
		s.DNS = []string{"", "off", "resolver"}[random.IntN(3)]
	}
	if random.IntN(3) == 0 {
		s.InboundCIDRAllowlist = cidrs()
	}
	return s
}

// FuzzWithin: a policy is within another exactly if nothing can be found that it admits
// and the other does not.
func FuzzWithin(f *testing.F) {
	for seed := range uint64(2000) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 7))
		p, ceiling := compiled(t, randomSpec(random), Ceiling{}), compiled(t, randomSpec(random), Ceiling{})
		if found := witness(p, ceiling); p.Within(ceiling) != (found == "") && (found != "" || !ceiling.Blocked()) {
			t.Errorf("%s within %s: %t, but %q", p.Canonical(), ceiling.Canonical(), p.Within(ceiling), found)
		}
	})
}
