package nft

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"brig/internal/netpolicy"
)

// Verify tells whether the link has an identity and exactly this policy in force.
func (s *State) Verify(link string, policy netpolicy.Policy) error {
	if err := s.CheckBase(); err != nil {
		return err
	}
	if !s.identified(link) {
		return fmt.Errorf("link %s has no identity in the transit rule set", link)
	}
	out, in := "", ""
	if !policy.Blocked() {
		if err := s.verifyPolicy(policy); err != nil {
			return err
		}
		out, in = chainNames(policy)
	}
	if s.egress[link] != out || s.ingress[link] != in {
		return fmt.Errorf("link %s is bound to %q and %q, want %q and %q", link, s.egress[link], s.ingress[link], out, in)
	}
	if got := slices.Contains(s.dns, link); got != (policy.DNS() != netpolicy.DNSOff) {
		return fmt.Errorf("link %s: DNS is %t in the transit rule set, want %t", link, got, policy.DNS() != netpolicy.DNSOff)
	}
	return nil
}

func (s *State) identified(link string) bool {
	return slices.ContainsFunc(s.bind, func(b Binding) bool { return b.Link == link })
}

// verifyPolicy compares the policy's chains and set with what was meant, rule by
// rule and range by range.
func (s *State) verifyPolicy(policy netpolicy.Policy) error {
	if policy.IsOpen() {
		return nil // part of the base
	}
	set := setName(policy)
	got, ok := s.ranges[set]
	if !ok {
		return fmt.Errorf("set %s is missing from the transit rule set", set)
	}
	if want := v4(policy.Ranges()); !slices.Equal(netpolicy.Normalise(got), want) {
		return fmt.Errorf("set %s holds %d ranges, not the %d that were loaded", set, len(got), len(want))
	}
	out, in := chainNames(policy)
	for _, want := range []struct {
		chain string
		rules []string
	}{
		{out, []string{matchText("daddr", set) + "; accept null", `goto {"target":"refuse"}`}},
		{in, []string{matchText("saddr", set) + "; accept null", "drop null"}},
	} {
		if got := s.chains[want.chain].rules; !slices.Equal(got, want.rules) {
			return fmt.Errorf("chain %s holds %q, want %q", want.chain, got, want.rules)
		}
	}
	return nil
}

func matchText(field, set string) string {
	return fmt.Sprintf(`match {"left":{"payload":{"field":%q,"protocol":"ip"}},"op":"==","right":"@%s"}`, field, set)
}

func (s *State) verifyIdentity(b Binding) error {
	var bound []Binding
	for _, other := range s.bind {
		if other.Link == b.Link || other.Addr == b.Addr {
			bound = append(bound, other)
		}
	}
	if !slices.Equal(bound, []Binding{b}) {
		return fmt.Errorf("link %s: the transit rule set says %v, want %v", b.Link, bound, b)
	}
	if s.egress[b.Link] != "" || s.ingress[b.Link] != "" || slices.Contains(s.dns, b.Link) {
		return fmt.Errorf("link %s has a policy before it was given one", b.Link)
	}
	return nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
