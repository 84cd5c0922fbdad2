package cni

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// flushConntrack forgets every connection of the address, in the transit namespace
// if it is there and in the host, so that nothing said to its former owner reaches
// the next one.
func flushConntrack(transit string, a netip.Addr) error {
	errs := []error{flushHere(a)}
	if err := netns.Do(transit, func() error { return flushHere(a) }); !errors.Is(err, unix.ENOENT) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("forget the connections of %s: %w", a, err)
	}
	return nil
}

// attempts of a flush: an entry that ends by itself between listing and deleting
// makes the kernel answer that it is not there.
const attempts = 5

func flushHere(a netip.Addr) (err error) {
	for range attempts {
		_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, flowOf(a))
		if err == nil {
			return nil
		}
	}
	return err
}

// flowOf matches flows in which the address takes part, translated or not.
type flowOf netip.Addr

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (a flowOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, ip := range [][]byte{flow.Forward.SrcIP, flow.Forward.DstIP, flow.Reverse.SrcIP, flow.Reverse.DstIP} {
		if other, ok := netip.AddrFromSlice(ip); ok && other.Unmap() == netip.Addr(a) {
			return true
		}
	}
	return false
}
