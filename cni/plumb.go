package cni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/cni/lease"
	"brig/internal/attachment"
	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
)

// plumb makes the link with both its ends' addresses, routes and neighbours. MAC
// addresses are given at creation, because whoever listens to link events would
// remember the random ones; neighbours are permanent, so that no ARP is needed and
// none is believed.
func plumb(node transit.Node, sandbox string, l lease.Lease) error {
	if err := netns.Do(node.Path, func() error { return makeLink(sandbox, l, node.MTU) }); err != nil {
		return fmt.Errorf("link %s: %w", l.Link, err)
	}
	if err := netns.Do(sandbox, func() error { return configureSandbox(l) }); err != nil {
		return fmt.Errorf("interface %s of the sandbox: %w", l.IfName, err)
	}
	return nil
}

// makeLink runs in the transit namespace. The link stays down until its alias says
// whose it is.
func makeLink(sandbox string, l lease.Lease, mtu int) error {
	ns, err := os.Open(sandbox)
	if err != nil {
		return err
	}
	defer ns.Close()
	alias, err := l.Identity().Alias()
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: l.Link, HardwareAddr: attachment.GatewayMAC, MTU: mtu},
		PeerName:         l.IfName,
		PeerHardwareAddr: attachment.MAC(l.Address),
		PeerMTU:          uint32(mtu),
		PeerNamespace:    netlink.NsFd(int(ns.Fd())),
	}
	if err := netlink.LinkAdd(veth); errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("the sandbox's namespace has an interface %s already", l.IfName)
	} else if err != nil {
		return err
	}
	link, err := netlink.LinkByName(l.Link)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	return inOrder(
		func() error { return netlink.LinkSetAlias(link, alias) },
		func() error { return netlink.LinkSetUp(link) },
		func() error { return netlink.RouteReplace(transitRoute(index, l.Address)) },
		func() error { return netlink.NeighSet(neighbour(index, l.Address, attachment.MAC(l.Address))) },
	)
}

// configureSandbox runs in the sandbox's namespace. runsc copies what it finds there.
func configureSandbox(l lease.Lease) error {
	link, err := netlink.LinkByName(l.IfName)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	steps := []func() error{
		// runsc gives a sandbox no loopback where its namespace's is down.
		func() error { return netlink.LinkSetUp(lo) },
		func() error { return disableIPv6(l.IfName) },
		func() error { return netlink.AddrReplace(link, &netlink.Addr{IPNet: host(l.Address)}) },
		func() error { return netlink.LinkSetUp(link) },
		func() error {
			return netlink.NeighSet(neighbour(index, gatewayPrefix.Addr(), attachment.GatewayMAC))
		},
	}
	for _, route := range sandboxRoutes(index) {
		steps = append(steps, func() error { return netlink.RouteReplace(route) })
	}
	return inOrder(steps...)
}

func transitRoute(index int, sandbox netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: index, Dst: host(sandbox), Scope: netlink.SCOPE_LINK, Src: net.ParseIP(nft.Gateway)}
}

// sandboxRoutes reach the gateway on the link itself and everything else through it.
func sandboxRoutes(index int) []*netlink.Route {
	everywhere := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	return []*netlink.Route{
		{LinkIndex: index, Dst: host(gatewayPrefix.Addr()), Scope: netlink.SCOPE_LINK},
		{LinkIndex: index, Dst: everywhere, Gw: gatewayPrefix.Addr().AsSlice()},
	}
}

func neighbour(index int, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
}

func host(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)} }

// disableIPv6 before the interface is up, so that no address is ever made. A kernel
// without IPv6 has no such file.
func disableIPv6(link string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// hasLink tells, in doubt, that the transit namespace has the link.
func hasLink(transit, link string) bool {
	has := true
	_ = netns.Do(transit, func() error {
		_, err := netlink.LinkByName(link)
		var missing netlink.LinkNotFoundError
		has = !errors.As(err, &missing)
		return nil
	})
	return has
}

// unplumb removes the link; its other end goes with it, in whatever namespace.
func unplumb(transit, link string) error {
	return netns.Do(transit, func() error {
		l, err := netlink.LinkByName(link)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return nil
		}
		if err == nil {
			err = netlink.LinkDel(l)
		}
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove link %s: %w", link, err)
		}
		return nil
	})
}

func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
