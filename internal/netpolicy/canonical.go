package netpolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// wire is the canonical form: fields in this order, ranges normalised, no spaces.
type wire struct {
	Egress  egress    `json:"egress"`
	Ranges  []string  `json:"ranges,omitempty"`
	Names   []string  `json:"names,omitempty"`
	DNS     dnsWish   `json:"dns,omitempty"`
	Inbound *[]string `json:"inbound,omitempty"`
}

// Canonical is the policy as JSON; equal policies give equal bytes.
func (p Policy) Canonical() []byte {
	w := wire{Egress: p.egress, Ranges: texts(p.ranges), Names: texts(p.names), DNS: p.dns}
	if p.inbound != nil {
		inbound := texts(*p.inbound)
		w.Inbound = &inbound
	}
	data, err := json.Marshal(w)
	if err != nil {
		panic(err) // strings always marshal
	}
	return data
}

func texts[T fmt.Stringer](list []T) []string {
	all := make([]string, len(list))
	for i, r := range list {
		all[i] = r.String()
	}
	return all
}

// ParseCanonical accepts exactly what Canonical writes.
func ParseCanonical(data []byte) (Policy, error) {
	var w wire
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return Policy{}, fmt.Errorf("parse network policy: %w", err)
	}
	p := Policy{egress: w.Egress, dns: w.DNS}
	if p.egress != egressBlock && p.egress != egressList && p.egress != egressOpen {
		return Policy{}, fmt.Errorf("parse network policy: egress %q", w.Egress)
	}
	if p.dns != dnsUnsaid && p.dns != dnsOff && p.dns != dnsResolver {
		return Policy{}, fmt.Errorf("parse network policy: dns %q", w.DNS)
	}
	var err error
	if p.ranges, err = parseRanges(w.Ranges); err != nil {
		return Policy{}, err
	}
	if p.names, err = parseNames(w.Names); err != nil {
		return Policy{}, fmt.Errorf("parse network policy: %w", err)
	}
	if w.Inbound != nil {
		inbound, err := parseRanges(*w.Inbound)
		if err != nil {
			return Policy{}, err
		}
		p.inbound = &inbound
	}
	if p.egress != egressList && len(p.ranges)+len(p.names) > 0 || len(p.names) > 0 && p.dns != dnsUnsaid || !bytes.Equal(p.Canonical(), data) {
		return Policy{}, fmt.Errorf("parse network policy: not in canonical form")
	}
	return p.sealed(), nil
}

// MarshalText is Canonical.
func (p Policy) MarshalText() ([]byte, error) { return p.Canonical(), nil }

// UnmarshalText is ParseCanonical.
func (p *Policy) UnmarshalText(data []byte) (err error) {
	*p, err = ParseCanonical(data)
	return err
}

func parseRanges(list []string) ([]Range, error) {
	ranges := make([]Range, len(list))
	for i, s := range list {
		r, err := ParseRange(s)
		if err != nil {
			return nil, fmt.Errorf("parse network policy: %w", err)
		}
		ranges[i] = r
	}
	return Normalise(ranges), nil
}
