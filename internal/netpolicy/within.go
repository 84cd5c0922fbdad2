package netpolicy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Within tells whether ceiling admits everything that p admits: every packet, every
// name, every question, every tunnel's client. Under a ceiling that blocks nothing but
// a block is within it.
func (p Policy) Within(ceiling Policy) bool { return p.beyond(ceiling) == "" }

// beyond names something that p admits and ceiling does not; "" if there is nothing.
func (p Policy) beyond(ceiling Policy) string {
	switch {
	case p.Blocked():
		return ""
	case ceiling.Blocked():
		return "a network"
	}
	out, found := outside(p.reach(), ceiling.reach())
	switch {
	case found && p.IsOpen():
		return "all of the internet"
	case found:
		return out.String()
	}
	if beyond := p.asksBeyond(ceiling); beyond != "" {
		return beyond
	}
	out, found = outside(p.clients(), ceiling.clients())
	switch {
	case found && p.inbound == nil:
		return "any client of its tunnels"
	case found:
		return "tunnels' client " + out.String()
	}
	return ""
}

// reach is what Verdict admits.
func (p Policy) reach() []Range {
	if p.IsOpen() {
		return public
	}
	return p.ranges
}

// clients are who may connect to tunnels.
func (p Policy) clients() []Range {
	if p.inbound == nil {
		return everything
	}
	return *p.inbound
}

// asksBeyond names a question that ceiling does not admit, or the connection by name that
// comes of it, which may lead to any public address; "" if there is none.
func (p Policy) asksBeyond(ceiling Policy) string {
	switch p.DNS() {
	case DNSOff:
		return ""
	case DNSResolver:
		if ceiling.DNS() != DNSResolver {
			return "dns for every name"
		}
		return ""
	}
	if _, found := outside(public, ceiling.reach()); !found && ceiling.DNS() == DNSResolver {
		return ""
	}
	for _, n := range p.names {
		if !slices.ContainsFunc(ceiling.names, func(c Name) bool { return c.covers(n) }) {
			return n.String()
		}
	}
	return ""
}

// described is the policy for whoever has to stay within it.
func (p Policy) described() string {
	var parts []string
	switch {
	case p.Blocked():
		return "no network"
	case p.IsOpen():
		parts = append(parts, "all of the internet")
	default:
		parts = append(parts, some(texts(p.ranges), "no address"), some(texts(p.names), ""))
	}
	parts = append(parts, "dns "+p.DNS().String())
	if p.inbound != nil {
		parts = append(parts, "tunnels' clients "+some(texts(*p.inbound), "none"))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

// some of a list, so that a line stays one.
func some(list []string, none string) string {
	const most = 8
	switch {
	case len(list) == 0:
		return none
	case len(list) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

var (
	everything = []Range{RangeOf(netip.MustParsePrefix("0.0.0.0/0")), RangeOf(netip.MustParsePrefix("::/0"))}
	// public is all that is not on the never-list.
	public = slices.Concat(subtract(everything[0], never), subtract(everything[1], never))
)

// outside finds one of ranges that does not lie in the normalised ones of wide.
func outside(ranges, wide []Range) (Range, bool) {
	i := slices.IndexFunc(ranges, func(r Range) bool { return !within(r, wide) })
	if i < 0 {
		return Range{}, false
	}
	return ranges[i], true
}

// within tells whether all of r lies in one of the normalised ranges.
func within(r Range, ranges []Range) bool {
	i, found := search(ranges, r.From)
	return found && !ranges[i].To.Less(r.To)
}

// contains looks a up in normalised ranges.
func contains(ranges []Range, a netip.Addr) bool {
	_, found := search(ranges, a)
	return found
}

// search finds the one of the normalised ranges that a lies in.
func search(ranges []Range, a netip.Addr) (int, bool) {
	i, found := slices.BinarySearchFunc(ranges, a, func(r Range, a netip.Addr) int { return r.From.Compare(a) })
	if found {
		return i, true
	}
	return i - 1, i > 0 && !ranges[i-1].To.Less(a)
}
