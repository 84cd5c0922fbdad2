package nft

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"

	"brig/internal/netpolicy"
)

// The sets that hold sandboxes, in the order in which they are declared. One with a lease
// is led through the leased chains: into the sets of leases, whose elements end by
// themselves, and then into those of what the leases stand in for.
var seatSetsEmpty = []set{
	{name: "bind4", key: bindKey4},
	{name: "bind6", key: bindKey6},
	{name: "egress", key: linkKey, verdict: true},
	{name: "ingress", key: linkKey, verdict: true},
	{name: "ask", key: linkKey, verdict: true},
	{name: "egress_lease", key: linkKey, verdict: true, expires: true},
	{name: "ingress_lease", key: linkKey, verdict: true, expires: true},
	{name: "ask_lease", key: linkKey, verdict: true, expires: true},
	{name: "egress_base", key: linkKey, verdict: true},
	{name: "ingress_base", key: linkKey, verdict: true},
	{name: "ask_base", key: linkKey, verdict: true},
	sniSet,
	pinSet,
	{name: "marks", key: markKey},
	{name: "marks_lease", key: markKey, expires: true},
}

// The sets of pins, whose keys begin with a link: of those that lead to the proxy, and of
// those that admit as they are.
var (
	sniSet = set{name: "sni4", key: linkAddrKey, expires: true}
	pinSet = set{name: "pins4", key: pinKey, expires: true, marks: true}

	pinSets = []set{sniSet, pinSet}
)

func seatSets(seats []Seat, now time.Duration) []set {
	sets := slices.Clone(seatSetsEmpty)
	for _, s := range seats {
		elements := s.elements(now)
		for i := range sets {
			sets[i].elements = append(sets[i].elements, elements[sets[i].name]...)
		}
	}
	return sets
}

// elements of one sandbox, by set.
func (s Seat) elements(now time.Duration) map[string][]element {
	if s.Link == "" {
		return nil
	}
	all := map[string][]element{"bind4": {bindElement(s.Link, s.MAC, s.Addr)}}
	if s.Addr6.IsValid() {
		all["bind6"] = []element{bindElement(s.Link, s.MAC, s.Addr6)}
	}
	if s.Lease == nil {
		if s.Grant != nil {
			s.Grant.put(all, s.Link, "", 0)
		}
		return all
	}
	for _, name := range verdictSets {
		e := linkElement(s.Link)
		e.goTo = "leased_" + name
		all[name] = []element{e}
	}
	if s.Grant != nil {
		s.Grant.put(all, s.Link, "_base", 0)
	}
	if now < s.Lease.Until {
		s.Lease.put(all, s.Link, "_lease", s.Lease.Until-now)
	}
	return all
}

// verdictSets lead packets from a sandbox, to it, and to the node.
var verdictSets = []string{"egress", "ingress", "ask"}

// put the verdicts of a grant for a link. A lease says no, too, where a grant would say
// nothing: else what it stands in for would decide.
func (g Grant) put(all map[string][]element, link, suffix string, timeout time.Duration) {
	verdicts := verdictsOf(g.Policy, suffix == "_lease")
	nothing := [...]string{denialChain(ReasonPolicy), "in_none", denialChain(ReasonService)}
	for i, name := range verdictSets {
		chain := verdicts[i]
		if chain == "" && suffix != "_lease" {
			continue
		}
		if chain == "" {
			chain = nothing[i]
		}
		e := linkElement(link)
		e.goTo, e.timeout, e.comment = chain, timeout, generationComment(g.Generation)
		all[name+suffix] = append(all[name+suffix], e)
	}
	if g.Policy.DNS() == netpolicy.DNSNames {
		e, name := markElement(link, g.mark()), "marks"
		if suffix == "_lease" {
			e.timeout, name = timeout, "marks_lease"
		}
		all[name] = append(all[name], e)
	}
}

// mark of the connections that a grant admits by name.
func (g Grant) mark() uint32 { return uint32(g.Generation) }

// verdictsOf a policy: where packets from the sandbox, to it, and to the node go; "" is
// nowhere.
func verdictsOf(p netpolicy.Policy, leased bool) (chains [3]string) {
	chains[0], chains[1] = ruleSet{p, leased}.chainNames()
	chains[2] = [...]string{netpolicy.DNSOff: "", netpolicy.DNSNames: "ask_names", netpolicy.DNSResolver: "ask_resolver"}[p.DNS()]
	return chains
}

// ruleSet is what a policy has of its own in the rules: sets and chains named by its hash
// in full, so that two never meet in one name. One with names has others for leases,
// whose connections are marked otherwise.
type ruleSet struct {
	netpolicy.Policy
	leased bool
}

func (r ruleSet) hash() string {
	if r.leased && len(r.Names()) > 0 {
		return "lease_" + r.Hash()
	}
	return r.Hash()
}

// chainNames for packets from a sandbox and to it; "" is nowhere.
func (r ruleSet) chainNames() (out, in string) {
	switch {
	case r.Blocked():
		return "", ""
	case r.IsOpen():
		return "out_open", "in_open"
	}
	return "out_" + r.hash(), "in_" + r.hash()
}

// ruleSetsOf seats, of policies that have rules of their own, each once, in the order of
// their hashes. A lease's stay until it is replaced, though it may have ended.
func ruleSetsOf(seats ...Seat) []ruleSet {
	byHash := map[string]ruleSet{}
	for _, s := range seats {
		for _, r := range s.ruleSets() {
			if !r.Blocked() && !r.IsOpen() {
				byHash[r.hash()] = r
			}
		}
	}
	var all []ruleSet
	for _, hash := range slices.Sorted(maps.Keys(byHash)) {
		all = append(all, byHash[hash])
	}
	return all
}

func (s Seat) ruleSets() (all []ruleSet) {
	if s.Grant != nil {
		all = append(all, ruleSet{s.Grant.Policy, false})
	}
	if s.Lease != nil {
		all = append(all, ruleSet{s.Lease.Policy, true})
	}
	return all
}

func (r ruleSet) sets() []set {
	v4, v6 := netpolicy.Split(r.Ranges())
	return []set{
		{name: "cidr4_" + r.hash(), key: nftables.TypeIPAddr, interval: true, elements: ranges(v4)},
		{name: "cidr6_" + r.hash(), key: nftables.TypeIP6Addr, interval: true, elements: ranges(v6)},
	}
}

func (r ruleSet) chains() []chain {
	out, in := r.chainNames()
	elseOut, elseIn := goTo(denialChain(ReasonPolicy)), drop
	switch {
	case len(r.Names()) > 0 && r.leased:
		elseOut, elseIn = goTo("out_names_lease"), goTo("in_names_lease")
	case len(r.Names()) > 0:
		elseOut, elseIn = goTo("out_names"), goTo("in_names")
	}
	cidr4, cidr6 := "cidr4_"+r.hash(), "cidr6_"+r.hash()
	outRules := []rule{all(daddr4.in(cidr4), accept), all(daddr6.in(cidr6), accept), all(elseOut)}
	if r.NamesPrivate() {
		// What the operator permits no more is cut off at once.
		outRules = append([]rule{
			all(daddr4.in("never4"), daddr4.notIn("private4"), goTo(denialChain(ReasonNever))),
			all(daddr6.in("never6"), daddr6.notIn("private6"), goTo(denialChain(ReasonNever))),
		}, outRules...)
	}
	return []chain{
		{name: out, rules: outRules},
		{name: in, rules: []rule{all(saddr4.in(cidr4), accept), all(saddr6.in(cidr6), accept), all(elseIn)}},
	}
}

// key of a concatenation: each field in whole words.
func key(fields ...[]byte) (joined []byte) {
	for _, f := range fields {
		joined = append(joined, f...)
		for len(joined)%4 != 0 {
			joined = append(joined, 0)
		}
	}
	return joined
}

func linkElement(link string) element {
	return element{key: ifname(link), text: fmt.Sprintf("%q", link)}
}

func bindElement(link, mac string, a netip.Addr) element {
	hardware, _ := net.ParseMAC(mac) // none is an element that no packet is
	return element{key: key(ifname(link), hardware, a.AsSlice()), text: fmt.Sprintf("%q . %s . %s", link, mac, a)}
}

func markElement(link string, mark uint32) element {
	return element{key: key(ifname(link), native(mark)), text: fmt.Sprintf("%q . 0x%08x", link, mark)}
}

func sniElement(link string, a netip.Addr) element {
	return element{key: key(ifname(link), a.AsSlice()), text: fmt.Sprintf("%q . %s", link, a)}
}

func pinElement(link string, a netip.Addr, port uint16) element {
	return element{key: key(ifname(link), a.AsSlice(), binary.BigEndian.AppendUint16(nil, port)), text: fmt.Sprintf("%q . %s . %d", link, a, port)}
}

// generationComment stands on an element, so that the kernel itself tells which
// generation it enforces.
func generationComment(n uint64) string { return "generation " + strconv.FormatUint(n, 10) }

func generationOf(comment string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(comment, "generation "), 10, 64)
	return n
}
