package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Policy is brig policy get --json.
type Policy struct {
	Generation uint64  `json:"generation"`
	Network    Network `json:"network"`
	// Lease is null for a policy that is for good.
	Lease *Lease `json:"lease"`
	// Bound: false means that everything is denied.
	Bound   bool              `json:"bound"`
	Denials map[string]uint64 `json:"denials"`
}

// Lease is when a policy ends, and what comes then.
type Lease struct {
	Until               *time.Time `json:"until"`
	RevertsTo           Network    `json:"reverts_to"`
	RevertsToGeneration uint64     `json:"reverts_to_generation"`
}

// OfPolicy converts a policy in force.
func OfPolicy(m *brigv1.GetNetworkPolicyResponse) Policy {
	p := Policy{Generation: m.GetGeneration(), Network: ofNetwork(m.GetNetwork()), Bound: m.GetBound(), Denials: map[string]uint64{}}
	maps.Copy(p.Denials, m.GetDenials())
	if l := m.GetLease(); l != nil {
		p.Lease = &Lease{Until: moment(l.GetUntil()), RevertsTo: ofNetwork(l.GetRevertsTo()), RevertsToGeneration: l.GetRevertsToGeneration()}
	}
	return p
}

func ofNetwork(n *brigv1.NetworkPolicy) Network {
	v := Network{
		Block: n.GetBlockNetwork(), CIDRs: cidrs(n.GetCidrAllowlist()), Inbound: cidrs(n.GetInboundCidrAllowlist()), DNS: n.GetDns(),
	}
	if d := n.GetDomainAllowlist(); d != nil {
		v.Domains = list(d.GetDomains())
	}
	return v
}

// Verdict is allow, deny or unknown.
func Verdict(v brigv1.Verdict) string { return word(v.String(), "VERDICT_") }

// Moment is nil for none.
func Moment(t *timestamppb.Timestamp) *time.Time { return moment(t) }

// PolicyRows is brig policy get as of now.
func PolicyRows(p Policy, now time.Time) [][]string {
	rows := [][]string{{"generation", fmt.Sprint(p.Generation)}}
	rows = append(rows, networkRows(p.Network)...)
	if p.Lease != nil && p.Lease.Until != nil {
		rows = append(rows, []string{"lease", fmt.Sprintf("ends in %s, then generation %d:", Span(max(p.Lease.Until.Sub(now), 0)), p.Lease.RevertsToGeneration)})
		for _, row := range networkRows(p.Lease.RevertsTo) {
			rows = append(rows, []string{"  " + row[0], row[1]})
		}
	}
	if !p.Bound {
		rows = append(rows, []string{"bound", "no: everything is denied"})
	}
	var refused []string
	for _, reason := range slices.Sorted(maps.Keys(p.Denials)) {
		refused = append(refused, fmt.Sprintf("%s %d", reason, p.Denials[reason]))
	}
	return append(rows, []string{"refused", dash(strings.Join(refused, ", "))})
}

// networkRows are a policy in words: long lists are cut, --json has all.
func networkRows(n Network) [][]string {
	outbound := "public addresses"
	switch {
	case n.Block:
		return [][]string{{"outbound", "nothing (block_network)"}}
	case len(n.CIDRs)+len(n.Domains) > 0:
		outbound = few(append(slices.Clone(n.CIDRs), n.Domains...))
	case n.CIDRs != nil || n.Domains != nil:
		outbound = "nothing"
	}
	rows := [][]string{{"outbound", outbound}}
	if n.DNS != "" {
		rows = append(rows, []string{"dns", n.DNS})
	}
	inbound := "tunnels from anywhere"
	if n.Inbound != nil {
		inbound = "tunnels from " + few(n.Inbound)
		if len(n.Inbound) == 0 {
			inbound = "nothing"
		}
	}
	return append(rows, []string{"inbound", inbound})
}

// few of a list, and how many more there are.
func few(entries []string) string {
	const most = 8
	if len(entries) <= most {
		return strings.Join(entries, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(entries[:most], ", "), len(entries)-most)
}
