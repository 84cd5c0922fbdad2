package cni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/lease"
	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
)

// Gateways of every sandbox, as routes' destinations. Each stands on the link itself.
var (
	gatewayPrefix  = netip.PrefixFrom(netip.MustParseAddr(nft.Gateway), 32)
	gatewayPrefix6 = netip.PrefixFrom(netip.MustParseAddr(nft.Gateway6), 128)
)

// gatewayOf the family of a.
func gatewayOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		return gatewayPrefix6.Addr()
	}
	return gatewayPrefix.Addr()
}

// plumb makes the link with both its ends' addresses, routes and neighbours. MAC
// addresses are given at creation, because whoever listens to link events would
// remember the random ones; neighbours are permanent, so that neither ARP nor NDP is
// needed and none is believed.
func plumb(node transit.Node, sandbox string, l lease.Lease) error {
	err := handled(node.Path, func(h *netlink.Handle) error { return makeLink(h, sandbox, l, node.MTU) })
	if err != nil {
		return fmt.Errorf("link %s: %w", l.Link, err)
	}
	if err := handled(sandbox, func(h *netlink.Handle) error { return configureSandbox(h, l) }); err != nil {
		return fmt.Errorf("interface %s of the sandbox: %w", l.IfName, err)
	}
	return nil
}

// handled runs fn in the namespace with a handle to its links: one socket for all that
// is asked, instead of one for each.
func handled(path string, fn func(*netlink.Handle) error) error {
	return netns.Do(path, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
}

// makeLink runs in the transit namespace. The link stays down until its alias says
// whose it is.
func makeLink(h *netlink.Handle, sandbox string, l lease.Lease, mtu int) error {
	alias, err := l.Identity().Alias()
	if err != nil {
		return err
	}
	if err := addVeth(h, sandbox, l, mtu); errors.Is(err, unix.EEXIST) {
		// What a DEL left to the reaper, on either end, or what a killed ADD left.
		if err := errors.Join(deleteLink(h, l.Link), reap(h)); err != nil {
			return err
		}
		if err := addVeth(h, sandbox, l, mtu); errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("the sandbox's namespace has an interface %s already", l.IfName)
		} else if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	link, err := h.LinkByName(l.Link)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	steps := []func() error{
		func() error { return h.LinkSetAlias(link, alias) },
		func() error { return ownIPv6(l.Link, l.Addr6.IsValid()) },
		func() error { return h.LinkSetUp(link) },
	}
	for _, a := range addresses(l) {
		steps = append(steps,
			func() error { return h.RouteReplace(transitRoute(index, a)) },
			func() error { return h.NeighSet(neighbour(index, a, attachment.MAC(l.Address))) },
		)
	}
	return inOrder(steps...)
}

func addVeth(h *netlink.Handle, sandbox string, l lease.Lease, mtu int) error {
	ns, err := os.Open(sandbox)
	if err != nil {
		return err
	}
	defer ns.Close()
	return h.LinkAdd(&netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: l.Link, HardwareAddr: attachment.GatewayMAC, MTU: mtu},
		PeerName:         l.IfName,
		PeerHardwareAddr: attachment.MAC(l.Address),
		PeerMTU:          uint32(mtu),
		PeerNamespace:    netlink.NsFd(int(ns.Fd())),
	})
}

// addresses of a lease: one, or two.
func addresses(l lease.Lease) []netip.Addr {
	if l.Addr6.IsValid() {
		return []netip.Addr{l.Address, l.Addr6}
	}
	return []netip.Addr{l.Address}
}

// configureSandbox runs in the sandbox's namespace. runsc copies what it finds there.
func configureSandbox(h *netlink.Handle, l lease.Lease) error {
	link, err := h.LinkByName(l.IfName)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	steps := []func() error{
		// runsc gives a sandbox no loopback where its namespace's is down.
		func() error { return h.LinkSetUp(lo) },
		func() error { return ownIPv6(l.IfName, l.Addr6.IsValid()) },
	}
	for _, a := range addresses(l) {
		// An address of IPv6 that is not said to be nobody else's is tentative until the
		// kernel comes to it, whatever its interface's settings.
		steps = append(steps, func() error {
			return h.AddrReplace(link, &netlink.Addr{IPNet: host(a), Flags: unix.IFA_F_NODAD})
		})
	}
	steps = append(steps, func() error { return h.LinkSetUp(link) })
	for _, a := range addresses(l) {
		steps = append(steps, func() error { return h.NeighSet(neighbour(index, gatewayOf(a), attachment.GatewayMAC)) })
		for _, route := range sandboxRoutes(index, a) {
			steps = append(steps, func() error { return h.RouteReplace(route) })
		}
	}
	return inOrder(steps...)
}

// transitRoute leads to the sandbox. IPv4's names the address that answers from here.
func transitRoute(index int, sandbox netip.Addr) *netlink.Route {
	r := &netlink.Route{LinkIndex: index, Dst: host(sandbox), Family: familyOf(sandbox)}
	if sandbox.Is4() {
		r.Scope, r.Src = netlink.SCOPE_LINK, gatewayPrefix.Addr().AsSlice()
	}
	return r
}

// sandboxRoutes reach the gateway on the link itself and everything else through it.
func sandboxRoutes(index int, a netip.Addr) []*netlink.Route {
	gateway, everywhere := gatewayOf(a), netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	scope := netlink.SCOPE_LINK
	if a.Is6() {
		everywhere, scope = netip.PrefixFrom(netip.IPv6Unspecified(), 0), netlink.SCOPE_UNIVERSE
	}
	return []*netlink.Route{
		{LinkIndex: index, Dst: host(gateway), Scope: scope, Family: familyOf(a)},
		{LinkIndex: index, Dst: ipNet(everywhere), Gw: gateway.AsSlice(), Family: familyOf(a)},
	}
}

func neighbour(index int, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, Family: familyOf(a), State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
}

func familyOf(a netip.Addr) int {
	if a.Is6() {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

func host(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, a.BitLen())) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// ownIPv6 sets up a link's IPv6 before the link is up: none at all, or none but what it
// is given here. No address is made from its MAC, none is asked whether it is taken, no
// router is asked for or believed. A kernel without IPv6 has no such settings.
func ownIPv6(link string, on bool) error {
	settings := [][2]string{{"disable_ipv6", "1"}}
	if on {
		settings = [][2]string{
			{"addr_gen_mode", "1"}, {"accept_ra", "0"}, {"autoconf", "0"}, {"accept_redirects", "0"},
			{"accept_dad", "0"}, {"dad_transmits", "0"}, {"router_solicitations", "0"}, {"disable_ipv6", "0"},
		}
	}
	dir := filepath.Join("/proc/sys/net/ipv6/conf", link)
	for _, s := range settings {
		err := os.WriteFile(filepath.Join(dir, s[0]), []byte(s[1]), 0)
		if errors.Is(err, os.ErrNotExist) && !on {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteLink removes the link at once, which takes the kernel some 20 ms; its other end
// goes with it, in whatever namespace. One that is not there is no error.
func deleteLink(h *netlink.Handle, name string) error {
	l, err := h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(l)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
