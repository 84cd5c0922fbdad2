package nft

import (
	"errors"
	"fmt"
	"os"
	"time"

	"brig/internal/netpolicy"
)

// put a seat's elements.
func (b *batch) put(s Seat, now time.Duration) error {
	elements := s.elements(now)
	for _, set := range seatSetsEmpty {
		if err := b.addElements(transitTable, set, elements[set.name]); err != nil {
			return err
		}
	}
	return nil
}

// take what there is of a seat's elements, its leases' and connections' by name included.
// It names nothing that is not there: one missing element would fail the transaction.
func (b *batch) take(kernel reader, s Seat) error {
	for _, set := range seatSetsEmpty {
		for _, e := range s.possible(set) {
			_, err := kernel.element(transitTable, set.name, e.key)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if err := b.deleteElements(transitTable, set, []element{e}); err != nil {
				return err
			}
		}
	}
	if s.hadNames() {
		return b.takeOf(kernel, s.Link)
	}
	return nil
}

// possible are the elements that the seat may have in a set.
func (s Seat) possible(of set) []element {
	switch {
	case of.verdict:
		return []element{linkElement(s.Link)}
	case of.name == "bind4" && s.Addr.IsValid():
		return []element{bindElement(s.Link, s.MAC, s.Addr)}
	case of.name == "bind6" && s.Addr6.IsValid():
		return []element{bindElement(s.Link, s.MAC, s.Addr6)}
	}
	return nil
}

func (s Seat) hadNames() bool {
	for _, g := range []*Grant{s.Grant, s.leased()} {
		if g != nil && g.Policy.DNS() == netpolicy.DNSNames {
			return true
		}
	}
	return false
}

func (s Seat) leased() *Grant {
	if s.Lease == nil {
		return nil
	}
	return &s.Lease.Grant
}

// bySandbox are the sets whose keys begin with a link.
var bySandbox = []set{
	{name: "sni4", key: linkAddrKey, expires: true},
	{name: "pins4", key: pinKey, expires: true},
	{name: "flows4", key: flowKey, expires: true},
}

// takeOf removes a link's pins, and connections that were made by them.
func (b *batch) takeOf(r reader, link string) error {
	for _, set := range bySandbox {
		all, err := r.elements(transitTable, set.name)
		if err != nil {
			return err
		}
		var mine []element
		for _, e := range all {
			if linkOf(e.key) == link {
				mine = append(mine, element{key: e.key})
			}
		}
		if err := b.deleteElements(transitTable, set, mine); err != nil {
			return err
		}
	}
	return nil
}

// addPolicy, unless the kernel has it.
func (b *batch) addPolicy(kernel reader, p netpolicy.Policy) (added bool, err error) {
	out, _ := chainNames(p)
	if there, err := kernel.hasChain(transitTable, out); err != nil || there {
		return false, err
	}
	t := transitTable
	t.sets, t.chains = policySets(p), policyChains(p)
	if err := b.add(t); err != nil {
		return false, fmt.Errorf("policy %s: %w", p, err)
	}
	return true, nil
}

func (b *batch) deletePolicy(p netpolicy.Policy) {
	for _, c := range policyChains(p) {
		b.DelChain(c.kernel(transitTable))
	}
	for _, s := range policySets(p) {
		b.DelSet(s.kernel(transitTable))
	}
}
