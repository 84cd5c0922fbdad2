package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"brig/internal/netpolicy"
)

// LinkPrefix begins the name of every sandbox's link in the transit namespace.
const LinkPrefix = "brg"

// Gateway is the address that sandboxes have as gateway and resolver.
const Gateway = "169.254.1.1"

// Base describes the part of the transit rule set that no sandbox changes.
type Base struct {
	// Private are ranges of the never-list that policies may name.
	Private []netip.Prefix
	// Node are the node's own addresses, denied to every sandbox.
	Node []netip.Addr
}

// RenderBase replaces the whole rule set of the transit namespace by one without any
// sandbox: closed.
func RenderBase(b Base) string {
	return fmt.Sprintf(baseText, elements(rangeTexts(v4(netpolicy.Never()))), elements(prefixTexts(b.Private)), elements(addrTexts(b.Node)))
}

// RenderSets replaces the sets of a base that is loaded, and nothing else.
func RenderSets(b Base) string {
	var text strings.Builder
	for _, set := range []struct {
		name     string
		elements []string
	}{{"node4", addrTexts(b.Node)}, {"private4", prefixTexts(b.Private)}} {
		fmt.Fprintf(&text, "flush set inet brig %s\n", set.name)
		if len(set.elements) > 0 {
			fmt.Fprintf(&text, "add element inet brig %s { %s }\n", set.name, strings.Join(set.elements, ", "))
		}
	}
	return text.String()
}

// Holds tells whether the base that the kernel has is whole and has these sets.
func (b Base) Holds(s *State) bool {
	return slices.Equal(s.Node(), onlyIPv4(b.Node)) &&
		slices.Equal(netpolicy.Normalise(s.ranges["private4"]), prefixRanges(b.Private))
}

func onlyIPv4(addrs []netip.Addr) []netip.Addr {
	sorted := slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	return slices.Compact(slices.DeleteFunc(sorted, func(a netip.Addr) bool { return !a.Is4() }))
}

// elements of a set's declaration; of none, none.
func elements(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return "\n\t\telements = { " + strings.Join(texts, ", ") + " }"
}

func rangeTexts(ranges []netpolicy.Range) []string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		if r.From == r.To {
			texts[i] = r.From.String()
		} else {
			texts[i] = r.String()
		}
	}
	return texts
}

func prefixTexts(prefixes []netip.Prefix) []string { return rangeTexts(prefixRanges(prefixes)) }

func prefixRanges(prefixes []netip.Prefix) []netpolicy.Range {
	var ranges []netpolicy.Range
	for _, p := range prefixes {
		if p.Addr().Is4() {
			ranges = append(ranges, netpolicy.RangeOf(p))
		}
	}
	return netpolicy.Normalise(ranges)
}

func addrTexts(addrs []netip.Addr) []string {
	var texts []string
	for _, a := range addrs {
		if a.Is4() {
			texts = append(texts, a.String())
		}
	}
	return texts
}

// baseText: identity stands before defragmentation (priority -450), because later a
// forged first fragment could borrow its tail from a sibling. Every packet from a
// sandbox is judged without memory of earlier ones, so a tightened policy ends live
// flows at the next packet, with a reset that the sandbox's end understands.
const baseText = `add table inet brig
delete table inet brig
add table arp brig
delete table arp brig
table inet brig {
	set bind4 {
		typeof iifname . ether saddr . ip saddr
	}
	set dns4 {
		type ifname
	}
	set never4 {
		type ipv4_addr
		flags interval%s
	}
	set private4 {
		type ipv4_addr
		flags interval%s
	}
	set node4 {
		type ipv4_addr%s
	}
	map egress {
		type ifname : verdict
	}
	map ingress {
		type ifname : verdict
	}
	chain refuse {
		meta l4proto tcp reject with tcp reset
		reject with icmpx admin-prohibited
	}
	chain out_open {
		ip daddr @never4 goto refuse
		accept
	}
	chain in_open {
		ip saddr @never4 drop
		accept
	}
	chain from_sandbox {
		ip daddr @node4 counter goto refuse
		ip daddr @never4 ip daddr != @private4 counter goto refuse
		iifname vmap @egress
		counter drop
	}
	chain to_sandbox {
		ct state related icmp type destination-unreachable icmp code frag-needed accept
		ct state != established counter drop
		ct direction != reply counter drop
		oifname vmap @ingress
		counter drop
	}
	chain identity {
		type filter hook prerouting priority -450; policy accept;
		iifname != "brg*" accept
		meta nfproto != ipv4 counter drop
		iifname . ether saddr . ip saddr != @bind4 counter drop
		fib daddr type { broadcast, multicast, anycast } counter drop
	}
	chain input {
		type filter hook input priority 0; policy drop;
		iifname "brg*" iifname @dns4 ip daddr 169.254.1.1 meta l4proto { tcp, udp } th dport 53 accept
		iifname "brg*" ct state established ct direction reply accept
		iifname "up0" ct state established accept
		iifname "lo" accept
		counter
	}
	chain output {
		type filter hook output priority 0; policy drop;
		oifname "lo" accept
		meta skuid 0 accept
		ct state established,related accept
		counter
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		iifname "brg*" oifname "up0" goto from_sandbox
		iifname "up0" oifname "brg*" goto to_sandbox
		iifname "brg*" counter goto refuse
		counter
	}
}
table arp brig {
	chain input {
		type filter hook input priority 0; policy drop;
		iifname "up0" accept
	}
}
`

func v4(ranges []netpolicy.Range) []netpolicy.Range {
	v4, _ := netpolicy.Split(ranges)
	return v4
}
