package explain

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"brig/internal/netpolicy"
	"brig/nodeagent/standing"
)

func list(entries ...string) *[]string {
	entries = append([]string{}, entries...)
	return &entries
}

func facts(t *testing.T, spec netpolicy.Spec) Facts {
	t.Helper()
	p, err := netpolicy.Compile(spec, netpolicy.Ceiling{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	return Facts{
		Live: standing.Live{
			Standing: standing.Standing{Grant: &standing.Grant{Policy: p, Generation: 3}},
			Addr:     netip.MustParseAddr("10.88.0.2"),
			Node:     []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("8.8.4.4")},
			Pins: []standing.Pin{
				{Addr: netip.MustParseAddr("203.0.113.7"), Port: 443, Left: 12 * time.Second},
				{Addr: netip.MustParseAddr("203.0.113.8"), Port: 8443, Left: 1500 * time.Millisecond},
				{Addr: netip.MustParseAddr("203.0.113.9"), Port: 443, Left: -time.Second},
			},
		},
		Now: time.Hour, Spec: spec, Resolver: netip.MustParseAddr("169.254.1.1"),
		NameOf: func(a netip.Addr) string {
			return map[string]string{"203.0.113.7": "web.example.com", "203.0.113.8": "api.example.org"}[a.String()]
		},
	}
}

func ask(q string) Question {
	protocol, rest, _ := strings.Cut(q, " ")
	host, port, _ := strings.Cut(rest, " ")
	out := Question{Protocol: protocol}
	if a, err := netip.ParseAddr(host); err == nil {
		out.Addr = a
	} else {
		out.Host = host
	}
	_, _ = fmt.Sscan(port, &out.Port)
	return out
}

func TestExplain(t *testing.T) {
	open := netpolicy.Spec{}
	cidrs := netpolicy.Spec{CIDRAllowlist: list("198.51.100.0/24", "8.0.0.0/6", "10.20.1.0/24")}
	names := netpolicy.Spec{DomainAllowlist: list("*.example.com", "api.example.org:8443"), CIDRAllowlist: list("1.1.1.0/24")}
	for _, tc := range []struct {
		spec     netpolicy.Spec
		question string
		want     string
	}{
		{open, "tcp 8.8.8.8 443", "allow: open policy: any public address"},
		{open, "udp 8.8.8.8 0", "allow: open policy: any public address"},
		{open, "tcp ::ffff:8.8.8.8 443", "allow: open policy: any public address"},
		{open, "tcp 8.8.4.4 443", "deny: node's own address"},
		{open, "tcp 10.1.2.3 443", "deny: never-list 10.0.0.0/8"},
		{open, "tcp 169.254.169.254 80", "deny: never-list 169.254.0.0/16"},
		{open, "tcp 255.255.255.255 80", "deny: never-list 224.0.0.0/3"},
		{open, "tcp 2606:4700::1 443", "deny: the sandbox has no IPv6"},
		{open, "udp 169.254.1.1 53", "allow: the node's resolver, for every name"},
		{open, "tcp 169.254.1.1 80", "deny: never-list 169.254.0.0/16"},
		{open, "icmp 169.254.1.1 53", "deny: never-list 169.254.0.0/16"},
		{open, "tcp example.com 443", "allow: open policy: any name that leads to a public address"},
		{netpolicy.Spec{DNS: "off"}, "tcp example.com 443", "deny: the policy has no DNS, so no name is resolved; ask about an address"},
		{netpolicy.Spec{DNS: "off"}, "udp 169.254.1.1 53", "deny: the policy has no DNS"},
		{netpolicy.Spec{BlockNetwork: true}, "tcp 8.8.8.8 443", "deny: block_network"},
		{netpolicy.Spec{CIDRAllowlist: list()}, "tcp 8.8.8.8 443", "deny: default deny: no entry of cidr_allowlist holds it"},
		{cidrs, "tcp 198.51.100.9 443", "allow: entry 198.51.100.0/24 of cidr_allowlist"},
		{cidrs, "tcp 9.255.255.255 443", "allow: entry 8.0.0.0/6 of cidr_allowlist"},
		{cidrs, "tcp 10.1.1.1 443", "deny: never-list 10.0.0.0/8"},               // cut out of 8.0.0.0/6
		{cidrs, "tcp 10.20.1.9 443", "allow: entry 8.0.0.0/6 of cidr_allowlist"}, // named, and permitted
		{cidrs, "tcp 8.8.4.4 443", "deny: node's own address"},
		{cidrs, "tcp 203.0.113.7 443", "deny: default deny: no entry of cidr_allowlist holds it"},
		{cidrs, "tcp example.com 443", "deny: the policy has no DNS, so no name is resolved; ask about an address"},
		{netpolicy.Spec{CIDRAllowlist: list("1.1.1.0/24"), DNS: "resolver"}, "tcp example.com 443",
			"unknown: the node's resolver answers, and cidr_allowlist decides about the address that it gives; ask about that"},
		{names, "tcp 1.1.1.1 25", "allow: entry 1.1.1.0/24 of cidr_allowlist"},
		{names, "tcp 203.0.113.7 443", "allow: name *.example.com, pinned 203.0.113.7 for 12 s more (as web.example.com); TLS must ask for that name"},
		{names, "tcp 203.0.113.7 0", "allow: name *.example.com, pinned 203.0.113.7 for 12 s more (as web.example.com); TLS must ask for that name"},
		{names, "tcp 203.0.113.7 80", "deny: default deny: it is pinned for TCP port 443 alone"},
		{names, "udp 203.0.113.7 443", "deny: default deny: names admit TCP alone"},
		{names, "tcp 203.0.113.8 8443", "allow: name api.example.org:8443, pinned 203.0.113.8 for 2 s more (as api.example.org)"},
		{names, "tcp 203.0.113.9 443", "allow: a name of domain_allowlist, pinned 203.0.113.9 for 0 s more; TLS must ask for that name"},
		{names, "tcp 203.0.113.10 443", "deny: default deny: no entry of cidr_allowlist holds it, and it is pinned for no name of domain_allowlist"},
		{names, "udp 169.254.1.1 53", "allow: the node's resolver, for the names of domain_allowlist"},
		{names, "tcp WEB.example.com. 443", "allow: entry *.example.com of domain_allowlist, pinned 203.0.113.7 for 12 s more"},
		{names, "tcp other.example.com 443", "allow: entry *.example.com of domain_allowlist, not pinned now: it is when the sandbox asks the resolver for it"},
		{names, "tcp example.com 443", "deny: no entry of domain_allowlist is this name"},
		{names, "tcp api.example.org 443", "deny: domain_allowlist has this name for TCP port 8443 alone"},
		{names, "udp web.example.com 443", "deny: entry *.example.com of domain_allowlist admits TCP alone"},
	} {
		a := Explain(ask(tc.question), facts(t, tc.spec))
		got := map[Verdict]string{Allow: "allow", Deny: "deny", Unknown: "unknown"}[a.Verdict] + ": " + a.Rule
		if got != tc.want || a.Generation != 3 {
			t.Errorf("%+v, %s\n got %s (generation %d)\nwant %s", tc.spec, tc.question, got, a.Generation, tc.want)
		}
	}
}

// What is not certain is denied, whatever the policy says.
func TestDoubt(t *testing.T) {
	f := facts(t, netpolicy.Spec{})
	q := ask("tcp 8.8.8.8 443")
	f.Difference = "the link is bound to nothing"
	if a := Explain(q, f); a.Verdict != Deny || !strings.HasSuffix(a.Rule, ": the link is bound to nothing") {
		t.Errorf("%+v", a)
	}
	f.Difference, f.Grant = "", nil
	if a := Explain(q, f); a != (Answer{Rule: "no policy bound"}) {
		t.Errorf("%+v", a)
	}
}

func TestALeaseAnswersWhileItLasts(t *testing.T) {
	f := facts(t, netpolicy.Spec{})
	f.Lease = &standing.Lease{Grant: standing.Grant{Generation: 4}, Until: f.Now + time.Second}
	q := ask("tcp 8.8.8.8 443")
	if a := Explain(q, f); a.Verdict != Deny || a.Generation != 4 {
		t.Errorf("%+v", a)
	}
	f.Now += time.Second
	if a := Explain(q, f); a.Verdict != Allow || a.Generation != 3 {
		t.Errorf("%+v", a)
	}
}

// The words agree with the reference, for addresses that are not the node's own.
func FuzzAgreesWithTheReference(f *testing.F) {
	f.Add("198.51.100.9")
	f.Add("10.20.1.1")
	f.Add("2606:4700::1")
	f.Fuzz(func(t *testing.T, s string) {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			return
		}
		for _, spec := range []netpolicy.Spec{{}, {CIDRAllowlist: list("198.51.100.0/24", "0.0.0.0/0", "10.20.1.0/24", "2606::/16")}} {
			facts := facts(t, spec)
			facts.Node, facts.Addr6 = nil, netip.MustParseAddr("fd00::2")
			a := Explain(Question{Addr: addr, Port: 80, Protocol: "tcp"}, facts)
			if want := facts.Grant.Policy.Verdict(netpolicy.Packet{Dst: addr}); (a.Verdict == Allow) != want {
				t.Errorf("%s: %+v, want %t", addr, a, want)
			}
		}
	})
}
