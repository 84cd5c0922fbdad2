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
	Inbound *[]string `json:"inbound,omitempty"`
}

// Canonical is the policy as JSON; equal policies give equal bytes.
func (p Policy) Canonical() []byte {
	w := wire{Egress: p.egress, Ranges: texts(p.ranges)}
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

func texts(ranges []Range) []string {
	all := make([]string, len(ranges))
	for i, r := range ranges {
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
	p := Policy{egress: w.Egress}
	if p.egress != egressBlock && p.egress != egressList && p.egress != egressOpen {
		return Policy{}, fmt.Errorf("parse network policy: egress %q", w.Egress)
	}
	var err error
	if p.ranges, err = parseRanges(w.Ranges); err != nil {
		return Policy{}, err
	}
	if w.Inbound != nil {
		inbound, err := parseRanges(*w.Inbound)
		if err != nil {
			return Policy{}, err
		}
		p.inbound = &inbound
	}
	if p.egress != egressList && len(p.ranges) > 0 || !bytes.Equal(p.Canonical(), data) {
		return Policy{}, fmt.Errorf("parse network policy: not in canonical form")
	}
	return p, nil
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
