package cni

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// flushConntrack forgets every connection of the addresses, in the transit namespace
// if it is there and in the host, so that nothing said to their former owner reaches
// the next one.
func flushConntrack(transit string, addresses ...netip.Addr) error {
	here := func() error {
		if untracked() {
			return nil
		}
		return each(addresses, flushHere)
	}
	errs := []error{here()}
	if err := netns.Do(transit, here); !errors.Is(err, unix.ENOENT) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("forget the connections of %v: %w", addresses, err)
	}
	return nil
}

// flushPool does it for all addresses of pools, by listing all connections.
func flushPool(transit string, pools ...netip.Prefix) error {
	here := func() error { return each(pools, func(p netip.Prefix) error { return flushListed(p) }) }
	if err := errors.Join(here(), netns.Do(transit, here)); err != nil {
		return fmt.Errorf("forget the connections of %v: %w", pools, err)
	}
	return nil
}

// The kernel's numbers, of linux/netfilter/nfnetlink_conntrack.h.
const (
	msgStats      = 5 // IPCTNL_MSG_CT_GET_STATS
	globalEntries = 1 // CTA_STATS_GLOBAL_ENTRIES
)

// untracked tells that the namespace tracks no connection at all. The kernel counts them; to
// list them takes 10 ms on a machine of 24 GiB, whose table has 262144 rows, if it has one or
// none. In doubt there are some.
func untracked() bool {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|msgStats, unix.NLM_F_ACK) // the answer says that more follows
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil || len(answers) != 1 || len(answers[0]) < nl.SizeofNfgenmsg {
		return false
	}
	attributes, err := nl.ParseRouteAttrAsMap(answers[0][nl.SizeofNfgenmsg:])
	count := attributes[globalEntries].Value
	return err == nil && len(count) == 4 && binary.BigEndian.Uint32(count) == 0
}

func each[T any](all []T, fn func(T) error) error {
	var errs []error
	for _, one := range all {
		errs = append(errs, fn(one))
	}
	return errors.Join(errs...)
}

// flushHere lets the kernel find them. One that is too old to do so (before 6.9)
// refuses, and all are listed. So they are for IPv6: there the kernel's filter compares
// the wrong way round, and removes every entry but the one that was meant.
func flushHere(a netip.Addr) error {
	if a.Is6() {
		return flushListed(netip.PrefixFrom(a, a.BitLen()))
	}
	for _, place := range places {
		if err := place.flush(a); err != nil {
			return flushListed(netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return nil
}

// place of a connection's entry where an address can stand.
type place struct {
	tuple    int    // CTA_TUPLE_ORIG or CTA_TUPLE_REPLY
	address  int    // CTA_IP_V4_SRC or CTA_IP_V4_DST
	original uint32 // what of the original direction is compared
	reply    uint32 // what of the replies
}

// The kernel's numbers, of the same header.
const (
	ctaFilter, ctaFilterOrig, ctaFilterReply = 25, 1, 2
	filterSource, filterDestination          = 1, 2
)

// places, all four: an address that is translated stands in only one direction.
var places = []place{
	{nl.CTA_TUPLE_ORIG, nl.CTA_IP_V4_SRC, filterSource, 0},
	{nl.CTA_TUPLE_ORIG, nl.CTA_IP_V4_DST, filterDestination, 0},
	{nl.CTA_TUPLE_REPLY, nl.CTA_IP_V4_SRC, 0, filterSource},
	{nl.CTA_TUPLE_REPLY, nl.CTA_IP_V4_DST, 0, filterDestination},
}

// flush removes the entries that have a, an IPv4 address, at the place. A kernel that does not know the
// filter takes the request for that of a single connection, which lacks its protocol:
// it never empties the table.
func (p place) flush(a netip.Addr) error {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|p.tuple, nil)
	tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(p.address, a.AsSlice())
	filter := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	filter.AddRtAttr(ctaFilterOrig, binary.NativeEndian.AppendUint32(nil, p.original))
	filter.AddRtAttr(ctaFilterReply, binary.NativeEndian.AppendUint32(nil, p.reply))
	req.AddData(tuple)
	req.AddData(filter)
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// attempts of a flush: an entry that ends by itself between listing and deleting
// makes the kernel answer that it is not there.
const attempts = 5

func flushListed(p netip.Prefix) (err error) {
	family := netlink.InetFamily(unix.AF_INET)
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	for range attempts {
		if _, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, flowOf(p)); err == nil {
			return nil
		}
	}
	return err
}

// flowOf matches flows in which an address of the prefix takes part, translated or not.
type flowOf netip.Prefix

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (p flowOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, ip := range [][]byte{flow.Forward.SrcIP, flow.Forward.DstIP, flow.Reverse.SrcIP, flow.Reverse.DstIP} {
		if a, ok := netip.AddrFromSlice(ip); ok && netip.Prefix(p).Contains(a.Unmap()) {
			return true
		}
	}
	return false
}
