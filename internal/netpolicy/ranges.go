package netpolicy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Range of IPv4 addresses, both ends included.
type Range struct {
	From, To netip.Addr
}

// String is from-to, also for a single address.
func (r Range) String() string { return r.From.String() + "-" + r.To.String() }

// ParseRange accepts what String writes.
func ParseRange(s string) (Range, error) {
	from, to, _ := strings.Cut(s, "-")
	var r Range
	var err error
	if r.From, err = netip.ParseAddr(from); err != nil {
		return Range{}, fmt.Errorf("invalid range %q", s)
	}
	if r.To, err = netip.ParseAddr(to); err != nil || !r.From.Is4() || !r.To.Is4() || r.To.Less(r.From) || r.String() != s {
		return Range{}, fmt.Errorf("invalid range %q", s)
	}
	return r, nil
}

// RangeOf an IPv4 prefix.
func RangeOf(p netip.Prefix) Range {
	first := number(p.Masked().Addr())
	return Range{From: address(first), To: address(first | (1<<(32-p.Bits()) - 1))}
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
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

// touches is for b that begins at or after a.
func touches(a, b Range) bool {
	return b.From.Compare(a.To) <= 0 || uint64(number(a.To))+1 == uint64(number(b.From))
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

// contains looks a up in normalised ranges.
func contains(ranges []Range, a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(ranges, a, func(r Range, a netip.Addr) int { return r.From.Compare(a) })
	if found {
		return true
	}
	return i > 0 && a.Is4() && !ranges[i-1].To.Less(a)
}

// within tells whether all of r lies in one of the normalised ranges.
func within(r Range, ranges []Range) bool {
	return contains(ranges, r.From) && len(subtract(r, ranges)) == 0
}

var never = func() []Range {
	var ranges []Range
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
	} {
		ranges = append(ranges, RangeOf(netip.MustParsePrefix(s)))
	}
	return Normalise(ranges)
}()

// Never are the ranges that no policy reaches unless the operator's configuration
// allows a list to name them.
func Never() []Range { return slices.Clone(never) }
