package nft

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// Live is what the kernel has of a sandbox, whatever the book says.
type Live struct {
	Binding
	Chain      string // of the policy, for packets from the sandbox; "" is deny
	Generation uint64 // of that policy
	Lease      *LiveLease
}

// LiveLease decides while the kernel has it.
type LiveLease struct {
	Chain      string
	Generation uint64
	Left       time.Duration
}

// Live lists all sandboxes that have an identity in the kernel, in the order of their links.
func (r Rules) Live() ([]Live, error) {
	kernel, err := openReader(r.path)
	if err != nil {
		return nil, err
	}
	defer kernel.Close()
	byLink := map[string]*Live{}
	for _, set := range seatSetsEmpty[:2] {
		elements, err := kernel.elements(transitTable, set.name)
		if errors.Is(err, os.ErrNotExist) { // no rules
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			if len(e.key) < 28 {
				return nil, errors.New("an identity that is cut short")
			}
			link := linkOf(e.key)
			l := byLink[link]
			if l == nil {
				l = &Live{Binding: Binding{Link: link, MAC: net.HardwareAddr(e.key[16:22]).String()}}
				byLink[link] = l
			}
			if a, _ := netip.AddrFromSlice(e.key[24:]); a.Is4() {
				l.Addr = a
			} else {
				l.Addr6 = a
			}
		}
	}
	err = kernel.live("egress", byLink, func(l *Live, e kernelElement) { l.Chain, l.Generation = e.goTo, generationOf(e.comment) })
	if err != nil {
		return nil, err
	}
	for _, l := range byLink {
		if l.Chain == "leased_egress" {
			l.Chain = ""
		}
	}
	err = kernel.live("egress_base", byLink, func(l *Live, e kernelElement) { l.Chain, l.Generation = e.goTo, generationOf(e.comment) })
	if err != nil {
		return nil, err
	}
	err = kernel.live("egress_lease", byLink, func(l *Live, e kernelElement) {
		l.Lease = &LiveLease{e.goTo, generationOf(e.comment), e.expires}
	})
	var all []Live
	for _, l := range byLink {
		all = append(all, *l)
	}
	slices.SortFunc(all, func(a, b Live) int { return strings.Compare(a.Link, b.Link) })
	return all, err
}

func (r reader) live(name string, byLink map[string]*Live, note func(*Live, kernelElement)) error {
	elements, err := r.elements(transitTable, name)
	for _, e := range elements {
		if l := byLink[linkOf(e.key)]; l != nil {
			note(l, e)
		}
	}
	return err
}
