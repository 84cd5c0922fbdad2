package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"brig/internal/netpolicy"
	"brig/nodeagent/standing"
)

// Written is a policy as its writer wrote it, with what it was compiled to: in the
// kernel and on the node's record is only that.
type Written struct {
	Spec netpolicy.Spec `json:"spec"`
	// Sum of the policy that Spec was compiled to.
	Sum string `json:"sum"`
	// Generation; 0: it is being put in force, and may or may not be.
	Generation uint64 `json:"generation"`
	// Until is when a lease ends, on the clock of Boot; 0: for good.
	Until time.Duration `json:"until,omitempty"`
	Boot  string        `json:"boot,omitempty"`
}

// Writing puts a policy on record that is about to be put in force.
func (r *Record) Writing(spec netpolicy.Spec, policy netpolicy.Policy) {
	kept := r.Policies[:0:0]
	for _, w := range r.Policies {
		if w.Generation != 0 {
			kept = append(kept, w)
		}
	}
	r.Policies = append(kept, Written{Spec: spec, Sum: policy.Sum()})
}

// Stands brings the record in line with what stands: it keeps the specs of that and no
// others, what is for good first.
func (r *Record) Stands(s standing.Standing, boot string) {
	var kept []Written
	if s.Grant != nil {
		kept = append(kept, r.written(*s.Grant))
	}
	if s.Lease != nil {
		w := r.written(s.Lease.Grant)
		w.Until, w.Boot = s.Lease.Until, boot
		kept = append(kept, w)
	}
	r.Policies = kept
}

// Spec of a policy that stands, as it was written if that is known.
func (r *Record) Spec(g standing.Grant) netpolicy.Spec { return r.written(g).Spec }

func (r *Record) written(g standing.Grant) Written {
	sum := g.Policy.Sum()
	found := -1
	for i, w := range r.Policies {
		// The same policy may have been written in several ways.
		if w.Sum == sum && (found < 0 || w.Generation == g.Generation || w.Generation == 0) {
			found = i
		}
	}
	w := Written{Sum: sum}
	switch {
	case found >= 0:
		w.Spec = r.Policies[found].Spec
	default:
		w.Spec = SpecOf(g.Policy) // somebody else put it in force
	}
	w.Generation = g.Generation
	return w
}

// Policy returns what was last known to be in force at a time of the boot's clock.
func (r *Record) Policy(now time.Duration, boot string) (netpolicy.Spec, uint64) {
	spec, generation := r.Request.Network, uint64(0)
	for _, w := range r.Policies {
		if w.Generation != 0 && (w.Until == 0 || w.Boot == boot && now < w.Until) {
			spec, generation = w.Spec, w.Generation
		}
	}
	return spec, generation
}

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
