package nft

import (
	"errors"
	"fmt"
	"os"
	"time"

	"brig/internal/netpolicy"
)

// put a seat's elements, those that the kernel does not have.
func (b *batch) put(kernel reader, s Seat, now time.Duration) error {
	elements := s.elements(now)
	for _, set := range seatSetsEmpty {
		for _, e := range elements[set.name] {
			if e.timeout == 0 && kernel.verifyElement(set, e.key, []element{e}) == nil {
				continue
			}
			if err := b.addElements(transitTable, set, []element{e}); err != nil {
				return err
			}
		}
	}
	return nil
}

// take what there is of a seat's elements, its leases' and connections' by name included,
// but for those that another seat has just so. It names nothing that is not there: one
// missing element would fail the transaction.
func (b *batch) take(kernel reader, s, but Seat, now time.Duration) error {
	keep := but.elements(now)
	for _, set := range seatSetsEmpty {
		for _, e := range s.possible(set) {
			switch got, err := kernel.element(transitTable, set.name, e.key); {
			case errors.Is(err, os.ErrNotExist):
				continue
			case err != nil:
				return err
			case stays(got, keep[set.name]):
				continue
			}
			if err := b.deleteElements(transitTable, set, []element{e}); err != nil {
				return err
			}
		}
	}
	if s.hadNames() {
		return b.takePins(kernel, s.Link)
	}
	return nil
}

// stays tells whether what the kernel has is exactly what is to be there.
func stays(got kernelElement, wanted []element) bool {
	return len(wanted) == 1 && wanted[0].timeout == 0 && got.compare(wanted[0], 0) == nil
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
	case of.name == "marks" && s.Grant != nil:
		return []element{markElement(s.Link, s.Grant.mark())}
	case of.name == "marks_lease" && s.Lease != nil:
		return []element{markElement(s.Link, s.Lease.mark())}
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

// takePins removes a link's pins.
func (b *batch) takePins(r reader, link string) error {
	for _, set := range pinSets {
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

// addRuleSet, unless the kernel has it.
func (b *batch) addRuleSet(kernel reader, r ruleSet) (added bool, err error) {
	out, _ := r.chainNames()
	if there, err := kernel.chainHead(transitTable, out); err != nil || there != nil {
		return false, err
	}
	t := transitTable
	t.sets, t.chains = r.sets(), r.chains()
	if err := b.add(t); err != nil {
		return false, fmt.Errorf("policy %s: %w", r.Policy, err)
	}
	return true, nil
}

// deleteRuleSet of that hash.
func (b *batch) deleteRuleSet(hash string) {
	b.empty = false
	for _, name := range []string{"out_", "in_"} {
		b.DelChain(chain{name: name + hash}.kernel(transitTable))
	}
	for _, name := range []string{"cidr4_", "cidr6_"} {
		b.DelSet(set{name: name + hash}.kernel(transitTable))
	}
}
