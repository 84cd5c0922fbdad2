package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"

	"brig/internal/netpolicy"
)

// SpecOf writes a policy that nobody's words are known for.
func SpecOf(p netpolicy.Policy) netpolicy.Spec {
	if p.Blocked() {
		return netpolicy.Spec{BlockNetwork: true}
	}
	var s netpolicy.Spec
	// Which clients a policy admits, and the wish for DNS, its canonical form alone tells.
	var wire struct {
		DNS     string    `json:"dns"`
		Inbound *[]string `json:"inbound"`
	}
	if err := json.NewDecoder(bytes.NewReader(p.Canonical())).Decode(&wire); err != nil {
		panic(fmt.Sprintf("a policy's canonical form is no JSON: %v", err)) // it always is
	}
	s.DNS = wire.DNS
	if !p.IsOpen() {
		s.CIDRAllowlist = cidrs(p.Ranges())
		if names := p.Names(); len(names) > 0 {
			list := make([]string, len(names))
			for i, n := range names {
				list[i] = n.String()
			}
			s.DomainAllowlist = &list
		}
	}
	if wire.Inbound != nil {
		var ranges []netpolicy.Range
		for _, text := range *wire.Inbound {
			if r, err := netpolicy.ParseRange(text); err == nil {
				ranges = append(ranges, r)
			}
		}
		s.InboundCIDRAllowlist = cidrs(ranges)
	}
	return s
}

// cidrs cuts ranges into the fewest CIDRs.
func cidrs(ranges []netpolicy.Range) *[]string {
	list := []string{}
	for _, r := range ranges {
		for at := r.From; at.IsValid() && !r.To.Less(at); {
			p := widest(at, r.To)
			list = append(list, p.String())
			at = netpolicy.RangeOf(p).To.Next()
		}
	}
	return &list
}

// widest CIDR that begins at from and does not end after to.
func widest(from, to netip.Addr) netip.Prefix {
	for bits := range from.BitLen() {
		if p := netip.PrefixFrom(from, bits); p.Masked() == p && !to.Less(netpolicy.RangeOf(p).To) {
			return p
		}
	}
	return netip.PrefixFrom(from, from.BitLen())
}
