package transit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
)

// ensure makes or repairs everything, in an order that is closed at every step: the
// rules come before the link that could carry a packet.
func ensure(ctx context.Context, cfg *config.Config) (Node, error) {
	if _, err := netlink.LinkByName(cfg.HostLink()); err == nil {
		return ensureWith(ctx, cfg, true)
	}
	// Nodes side by side must not pick the same addresses, so they pick one after
	// the other, each until its route is seen by the next.
	if err := os.MkdirAll(netns.Dir, 0o755); err != nil {
		return Node{}, err
	}
	var node Node
	err := flock(ctx, netns.Dir, os.O_RDONLY|unix.O_DIRECTORY, func(ctx context.Context) (err error) {
		node, err = ensureWith(ctx, cfg, false)
		return err
	})
	return node, err
}

func ensureWith(ctx context.Context, cfg *config.Config, settled bool) (Node, error) {
	c, err := choose(cfg, settled)
	if err != nil {
		return Node{}, err
	}
	if !netns.Exists(cfg.TransitName()) {
		// A file without a mount is what a killed process left.
		if err := errors.Join(netns.Delete(cfg.TransitName()), netns.Create(cfg.TransitName())); err != nil {
			return Node{}, err
		}
	}
	node, err := describe(cfg, c)
	if err != nil {
		return Node{}, err
	}
	if node.Repaired, err = node.rules.Ensure(node.base, Now()); err != nil {
		return Node{}, err
	}
	var uplinks []netlink.Link
	if node.MTU, uplinks, err = uplink(cfg); err != nil {
		return Node{}, err
	}
	if err := ensureInside(cfg, node); err != nil {
		return Node{}, err
	}
	if err := ensureLink(cfg, c, node); err != nil {
		return Node{}, err
	}
	return node, ensureHost(cfg, &c, node, uplinks)
}

// describe is the node as it should be, without a look at its links.
func describe(cfg *config.Config, c choice) (Node, error) {
	addrs, err := nodeAddresses(cfg, c)
	if err != nil {
		return Node{}, err
	}
	private, err := cfg.Network.PrivateRanges()
	if err != nil {
		return Node{}, err
	}
	n := Node{Path: Path(cfg), Pool: c.Pool, rules: Rules(cfg), up: c.Up.Addr(), down: c.Host.Addr()}
	if cfg.Network.IPv6 != "off" {
		n.Pool6 = c.Pool6
	}
	limits := cfg.Network.Limits
	n.base = nft.Base{Node: addrs, Private: private, Connections: limits.Connections, NewConnections: limits.NewConnections, Bandwidth: limits.Bandwidth}
	n.host = nft.Host{
		Table: cfg.HostTable(), Link: cfg.HostLink(), Pool: n.Pool, Pool6: n.Pool6,
		Trust: filepath.Join(cfg.NetworkDir(), "host.trust"),
	}
	return n, nil
}

// nodeAddresses are the host's, those that the operator adds, and both ends of the
// node's link; sorted.
func nodeAddresses(cfg *config.Config, c choice) ([]netip.Addr, error) {
	addrs, err := hostAddresses()
	if err != nil {
		return nil, err
	}
	for _, s := range cfg.Network.NodeAddresses {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a.Unmap())
	}
	addrs = append(addrs, c.Host.Addr(), c.Up.Addr(), netpolicy.RangeOf(c.Host).To)
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// defaultMTU is for a host without a default route.
const defaultMTU = 1500

// uplink returns the links that lead to what a policy can admit: those of default
// routes, of public networks, and of private ones that the operator permits. The MTU
// is the smallest of the default routes' links.
func uplink(cfg *config.Config) (mtu int, links []netlink.Link, err error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return 0, nil, fmt.Errorf("list the host's routes: %w", err)
	}
	private, err := cfg.Network.PrivateRanges()
	if err != nil {
		return 0, nil, err
	}
	mtu = defaultMTU
	for _, r := range routes {
		if r.LinkIndex == 0 || !admissible(r.Dst, private) {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return 0, nil, fmt.Errorf("look at the link of a route: %w", err)
		}
		if strings.HasPrefix(link.Attrs().Name, "brig") {
			continue // another node's, or our own
		}
		links = append(links, link)
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			mtu = min(mtu, link.Attrs().MTU)
		}
	}
	return mtu, links, nil
}

// admissible tells whether some policy could admit part of a route's destination.
func admissible(dst *net.IPNet, private []netip.Prefix) bool {
	if dst == nil || dst.IP.IsUnspecified() {
		return true
	}
	addr, ok := netip.AddrFromSlice(dst.IP)
	bits, _ := dst.Mask.Size()
	if !ok {
		return false
	}
	p := netip.PrefixFrom(addr.Unmap(), bits)
	if slices.ContainsFunc(private, p.Overlaps) {
		return true
	}
	r := netpolicy.RangeOf(p)
	return !slices.ContainsFunc(netpolicy.Never(), func(n netpolicy.Range) bool {
		return n.From.Compare(r.From) <= 0 && r.To.Compare(n.To) <= 0
	})
}

// ensureInside sets up what does not touch the host: loopback, the addresses by which the
// node speaks to sandboxes, forwarding.
func ensureInside(cfg *config.Config, n Node) error {
	settings := []setting{
		{"net/ipv4/conf/all/forwarding", "1"}, {"net/ipv4/conf/default/forwarding", "1"},
		{"net/ipv4/conf/all/rp_filter", "0"}, {"net/ipv4/conf/default/rp_filter", "0"},
		{"net/ipv4/conf/all/send_redirects", "0"}, {"net/ipv4/conf/default/send_redirects", "0"},
		{"net/ipv4/conf/all/accept_redirects", "0"}, {"net/ipv4/conf/default/accept_redirects", "0"},
		{"net/ipv4/conf/all/accept_source_route", "0"}, {"net/ipv4/conf/default/accept_source_route", "0"},
		// Sandboxes share the memory in which the pieces of a datagram wait for each other.
		{"net/ipv4/ipfrag_time", "2"},
	}
	addrs := []*net.IPNet{{IP: net.ParseIP(nft.Gateway).To4(), Mask: net.CIDRMask(32, 32)}}
	if n.Pool6.IsValid() {
		settings = append(settings, quiet6("all")...)
		settings = append(settings, quiet6("default")...)
		settings = append(settings, setting{"net/ipv6/conf/all/forwarding", "1"})
		// What the kernel answers to sandboxes comes from here; they begin at the other end.
		addrs = append(addrs, ipNet(netip.PrefixFrom(n.Own6(), 128)))
	} else {
		settings = append(settings, setting{"net/ipv6/conf/all/disable_ipv6", "1"}, setting{"net/ipv6/conf/default/disable_ipv6", "1"})
	}
	return inside(cfg, func(h *netlink.Handle) error {
		for _, s := range settings {
			if err := s.ensure(); err != nil {
				return err
			}
		}
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		if lo.Attrs().Flags&net.FlagUp == 0 {
			if err := h.LinkSetUp(lo); err != nil {
				return err
			}
		}
		return replaceAddresses(h, lo, addrs)
	})
}

// quiet6 is IPv6 that believes nobody and announces nothing.
func quiet6(link string) []setting {
	return []setting{
		{"net/ipv6/conf/" + link + "/accept_ra", "0"}, {"net/ipv6/conf/" + link + "/autoconf", "0"},
		{"net/ipv6/conf/" + link + "/accept_redirects", "0"}, {"net/ipv6/conf/" + link + "/accept_source_route", "0"},
		{"net/ipv6/conf/" + link + "/dad_transmits", "0"}, {"net/ipv6/conf/" + link + "/router_solicitations", "0"},
		{"net/ipv6/conf/" + link + "/addr_gen_mode", "1"}, {"net/ipv6/conf/" + link + "/disable_ipv6", "0"},
	}
}

// replaceAddresses puts them on a link of the transit namespace, whether it has them or
// not: to list them is to list those of every sandbox's link.
func replaceAddresses(h *netlink.Handle, link netlink.Link, want []*net.IPNet) error {
	for _, w := range want {
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: w, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("address %s: %w", w, err)
		}
	}
	return nil
}

// ensureAddresses adds what a link of the host lacks. What is there is left alone: whoever
// watches the host's network would be told.
func ensureAddresses(h *netlink.Handle, link netlink.Link, want []*net.IPNet) error {
	have, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, w := range want {
		if slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IPNet.String() == w.String() }) {
			continue
		}
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: w, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("address %s: %w", w, err)
		}
	}
	return nil
}

// newHandle for links, addresses and routes. One for rules, too, would have its closing
// wait for all that was deleted of them.
func newHandle() (*netlink.Handle, error) { return netlink.NewHandle(unix.NETLINK_ROUTE) }

// inside runs fn in the transit namespace, with a handle to its links.
func inside(cfg *config.Config, fn func(*netlink.Handle) error) error {
	return netns.Do(Path(cfg), func() error {
		h, err := newHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
}

// The link-local addresses of both ends of the node's link, where it has IPv6.
var (
	hostLocal6 = netip.MustParsePrefix("fe80::2/64")
	upLocal6   = netip.MustParsePrefix("fe80::3/64")
)

// ensureLink makes the veth between host and transit with its addresses, routes and
// neighbours.
func ensureLink(cfg *config.Config, c choice, n Node) error {
	host, err := netlink.LinkByName(cfg.HostLink())
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		host, err = makeLink(cfg, n.MTU)
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", cfg.HostLink(), err)
	}
	if host.Type() != "veth" {
		return fmt.Errorf("link %s exists and is not a veth; rename or remove it", cfg.HostLink())
	}
	up, err := ensureUp(cfg, c, n, host.Attrs().HardwareAddr)
	if err != nil {
		return fmt.Errorf("link %s in %s: %w", UpLink, cfg.TransitName(), err)
	}
	h, err := newHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	settings := []setting{{"net/ipv6/conf/" + cfg.HostLink() + "/disable_ipv6", "1"}}
	addrs := []*net.IPNet{ipNet(c.Host)}
	if n.Pool6.IsValid() {
		settings, addrs = quiet6(cfg.HostLink()), append(addrs, ipNet(hostLocal6))
	}
	e := end{host, settings, addrs, n.hostRoutes(host.Attrs().Index), upLocal6.Addr(), up, ensureAddresses, ensureRoutes}
	if err := e.ensure(h, n); err != nil {
		return fmt.Errorf("link %s: %w", cfg.HostLink(), err)
	}
	return nil
}

// ensureRoutes adds what the host lacks, and leaves alone what is there.
func ensureRoutes(h *netlink.Handle, routes []*netlink.Route) error {
	for _, r := range routes {
		if there, err := hasRoute(r); err != nil {
			return err
		} else if there {
			continue
		}
		if err := h.RouteReplace(r); err != nil {
			return fmt.Errorf("route to %s: %w", r.Dst, err)
		}
	}
	return nil
}

// replaceRoutes puts routes into the transit namespace, whether it has them or not: to
// list them is to list those to every sandbox.
func replaceRoutes(h *netlink.Handle, routes []*netlink.Route) error {
	for _, r := range routes {
		if err := h.RouteReplace(r); err != nil {
			return fmt.Errorf("route to %s: %w", r.Dst, err)
		}
	}
	return nil
}

// hasRoute tells whether the calling thread's namespace has the route.
func hasRoute(r *netlink.Route) (bool, error) {
	family := netlink.FAMILY_V4
	if r.Gw.To4() == nil {
		family = netlink.FAMILY_V6
	}
	found, err := netlink.RouteListFiltered(family, r, netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST|netlink.RT_FILTER_GW)
	return len(found) > 0, err
}

// end of the node's link, in its namespace.
type end struct {
	netlink.Link
	settings []setting
	addrs    []*net.IPNet
	routes   []*netlink.Route
	// peer6 and peer are the other end's.
	peer6 netip.Addr
	peer  net.HardwareAddr
	// addAddresses and addRoutes put them there.
	addAddresses func(*netlink.Handle, netlink.Link, []*net.IPNet) error
	addRoutes    func(*netlink.Handle, []*netlink.Route) error
}

func (e end) ensure(h *netlink.Handle, n Node) error {
	link := e.Link
	for _, s := range e.settings {
		if err := s.ensure(); err != nil {
			return err
		}
	}
	if link.Attrs().MTU != n.MTU {
		if err := h.LinkSetMTU(link, n.MTU); err != nil {
			return err
		}
	}
	if err := e.addAddresses(h, link, e.addrs); err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
	}
	if err := e.addRoutes(h, e.routes); err != nil {
		return err
	}
	if !n.Pool6.IsValid() {
		return nil
	}
	return h.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V6, State: netlink.NUD_PERMANENT, IP: e.peer6.AsSlice(), HardwareAddr: e.peer})
}

func makeLink(cfg *config.Config, mtu int) (netlink.Link, error) {
	ns, err := os.Open(Path(cfg))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: cfg.HostLink(), MTU: mtu},
		PeerName:      UpLink,
		PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, err
	}
	return netlink.LinkByName(cfg.HostLink())
}

// ensureUp sets up the transit's end, and returns its hardware address.
func ensureUp(cfg *config.Config, c choice, n Node, host net.HardwareAddr) (mac net.HardwareAddr, err error) {
	err = inside(cfg, func(h *netlink.Handle) error {
		up, err := h.LinkByName(UpLink)
		if err != nil {
			return err
		}
		mac = up.Attrs().HardwareAddr
		addrs := []*net.IPNet{ipNet(c.Up)}
		var settings []setting
		if n.Pool6.IsValid() {
			settings, addrs = quiet6(UpLink), append(addrs, ipNet(upLocal6))
		}
		e := end{up, settings, addrs, n.upRoutes(up.Attrs().Index), hostLocal6.Addr(), host, replaceAddresses, replaceRoutes}
		return e.ensure(h, n)
	})
	return mac, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
