package netpolicy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Range of addresses of one family, both ends included.
type Range struct {
	From, To netip.Addr
}

// String is from-to, also for a single address.
func (r Range) String() string { return r.From.String() + "-" + r.To.String() }

// Is4 tells whether it is a range of IPv4 addresses.
func (r Range) Is4() bool { return r.From.Is4() }

// ParseRange accepts what String writes.
func ParseRange(s string) (Range, error) {
	from, to, _ := strings.Cut(s, "-")
	a, errFrom := netip.ParseAddr(from)
	b, errTo := netip.ParseAddr(to)
	r := Range{From: a, To: b}
	if errFrom != nil || errTo != nil || a.BitLen() != b.BitLen() || a.Is4In6() || b.Is4In6() || a.Zone()+b.Zone() != "" || b.Less(a) || r.String() != s {
		return Range{}, fmt.Errorf("invalid range %q", s)
	}
	return r, nil
}

// RangeOf a prefix.
func RangeOf(p netip.Prefix) Range {
	first := p.Masked().Addr()
	last := first.AsSlice()
	for bit := p.Bits(); bit < first.BitLen(); bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	to, _ := netip.AddrFromSlice(last)
	return Range{From: first, To: to}
}

// Split ranges by family; Normalise puts IPv4 first.
func Split(ranges []Range) (v4, v6 []Range) {
	i, _ := slices.BinarySearchFunc(ranges, 32, func(r Range, bits int) int { return cmp.Compare(r.From.BitLen(), bits+1) })
	return ranges[:i], ranges[i:]
}

// Normalise sorts ranges and merges those that overlap or touch.
func Normalise(ranges []Range) []Range {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b Range) int {
		return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To))
	})
	merged := make([]Range, 0, len(sorted))
	for _, r := range sorted {
		if last := len(merged) - 1; last >= 0 && touches(merged[last], r) {
			if merged[last].To.Less(r.To) {
				merged[last].To = r.To
			}
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// touches is for b that begins at or after a. After the last address of a family there is
// none, and Next is no address.
func touches(a, b Range) bool {
	return a.From.BitLen() == b.From.BitLen() && (b.From.Compare(a.To) <= 0 || a.To.Next() == b.From)
}

// subtract the normalised ranges cut from r.
func subtract(r Range, cut []Range) []Range {
	var left []Range
	for _, c := range cut {
		if c.To.Less(r.From) || r.To.Less(c.From) {
			continue
		}
		if r.From.Less(c.From) {
			left = append(left, Range{r.From, c.From.Prev()})
		}
		if !c.To.Less(r.To) {
			return left
		}
		r.From = c.To.Next()
	}
	return append(left, r)
}

// intersect returns what of the normalised ranges lies in r.
func intersect(r Range, ranges []Range) (parts []Range) {
	for _, other := range ranges {
		if other.To.Less(r.From) || r.To.Less(other.From) {
			continue
		}
		part := r
		if part.From.Less(other.From) {
			part.From = other.From
		}
		if other.To.Less(part.To) {
			part.To = other.To
		}
		parts = append(parts, part)
	}
	return parts
}

var never = func() []Range {
	ranges := []Range{
		// Of IPv6 only what is assigned to the internet is public: 2000::/3.
		between("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),     // loopback, mapped and translated IPv4
		between("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), // private, link-local, multicast
	}
	for _, s := range []string{
		"0.0.0.0/8",        // this network
		"10.0.0.0/8",       // private
		"100.64.0.0/10",    // shared by carriers; some clouds' metadata
		"127.0.0.0/8",      // loopback
		"169.254.0.0/16",   // link-local; most clouds' metadata
		"172.16.0.0/12",    // private
		"192.0.0.0/24",     // protocol assignments
		"192.168.0.0/16",   // private
		"198.18.0.0/15",    // benchmarks
		"168.63.129.16/32", // a cloud's metadata on a public address
		"224.0.0.0/3",      // multicast, reserved, broadcast
		"2001::/23",        // protocol assignments, tunnels through IPv4 among them
		"2002::/16",        // tunnels to any IPv4 address
	} {
		ranges = append(ranges, RangeOf(netip.MustParsePrefix(s)))
	}
	return Normalise(ranges)
}()

func between(from, to string) Range {
	return Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}
}

// Never are the ranges that no policy reaches unless the operator's configuration
// allows a list to name them.
func Never() []Range { return slices.Clone(never) }
