package netpolicy

import (
	"net/netip"
	"slices"
)

// Within tells whether ceiling admits everything that p admits: every packet, every
// name, every question, every tunnel's client.
func (p Policy) Within(ceiling Policy) bool {
	switch {
	case p.Blocked():
		return true
	case !ceiling.IsOpen() && (p.IsOpen() || slices.ContainsFunc(p.ranges, func(r Range) bool { return !within(r, ceiling.ranges) })):
		return false
	case !ceiling.asks(p):
		return false
	}
	return ceiling.inbound == nil || p.inbound != nil && !slices.ContainsFunc(*p.inbound, func(r Range) bool { return !within(r, *ceiling.inbound) })
}

// asks tells whether p admits the questions of other, and the connections by name that
// come of them.
func (p Policy) asks(other Policy) bool {
	switch other.DNS() {
	case DNSOff:
		return true
	case DNSNames:
		return p.IsOpen() && p.DNS() == DNSResolver || p.namesCover(other)
	}
	return p.DNS() == DNSResolver
}

// namesCover tells whether each name of p lies in one of the ceiling's.
func (p Policy) namesCover(other Policy) bool {
	return !slices.ContainsFunc(other.names, func(n Name) bool {
		return !slices.ContainsFunc(p.names, func(c Name) bool { return c.covers(n) })
	})
}

// within tells whether all of r lies in one of the normalised ranges.
func within(r Range, ranges []Range) bool {
	return contains(ranges, r.From) && len(subtract(r, ranges)) == 0
}

// contains looks a up in normalised ranges.
func contains(ranges []Range, a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(ranges, a, func(r Range, a netip.Addr) int { return r.From.Compare(a) })
	if found {
		return true
	}
	return i > 0 && !ranges[i-1].To.Less(a)
}
