package transit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
	rules := nft.Namespace(Path(cfg))
	if err := ensureRules(ctx, cfg, rules, c); err != nil {
		return Node{}, err
	}
	mtu, uplinks, err := uplink(cfg)
	if err != nil {
		return Node{}, err
	}
	if err := ensureInside(cfg); err != nil {
		return Node{}, err
	}
	if err := ensureLink(cfg, c, mtu); err != nil {
		return Node{}, err
	}
	if err := ensureHost(ctx, cfg, &c, uplinks); err != nil {
		return Node{}, err
	}
	return Node{Path: Path(cfg), Rules: rules, Pool: c.Pool, MTU: mtu}, nil
}

// ensureRules loads the base if it is not whole, and mirrors the node's addresses and
// the operator's private ranges. A base that was tampered with is replaced, which
// closes every sandbox of the node: whoever is bound again is open again.
func ensureRules(ctx context.Context, cfg *config.Config, rules nft.Namespace, c choice) error {
	node, err := nodeAddresses(cfg, c)
	if err != nil {
		return err
	}
	private, err := cfg.Network.PrivateRanges()
	if err != nil {
		return err
	}
	base := nft.Base{Node: node, Private: private}
	state, err := rules.Read(ctx)
	switch {
	case errors.Is(err, nft.ErrNoRules), err == nil && state.CheckBase() != nil:
		return rules.Apply(ctx, nft.RenderBase(base))
	case err != nil: // nothing is known, so nothing is torn down
		return err
	case base.Holds(state):
		return nil
	}
	return rules.Apply(ctx, nft.RenderSets(base))
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
		if a.Is4() {
			addrs = append(addrs, a)
		}
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
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
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
	addr, ok := netip.AddrFromSlice(dst.IP.To4())
	bits, _ := dst.Mask.Size()
	if !ok {
		return false
	}
	p := netip.PrefixFrom(addr, bits)
	if slices.ContainsFunc(private, p.Overlaps) {
		return true
	}
	r := netpolicy.RangeOf(p)
	return !slices.ContainsFunc(netpolicy.Never(), func(n netpolicy.Range) bool {
		return n.From.Compare(r.From) <= 0 && r.To.Compare(n.To) <= 0
	})
}

// ensureInside sets up what does not touch the host: loopback, the gateway's
// address, forwarding, no IPv6.
func ensureInside(cfg *config.Config) error {
	return inside(cfg, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := h.LinkSetUp(lo); err != nil {
			return err
		}
		gateway := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(nft.Gateway).To4(), Mask: net.CIDRMask(32, 32)}}
		if err := h.AddrReplace(lo, gateway); err != nil {
			return err
		}
		for _, s := range []setting{
			{"net/ipv6/conf/all/disable_ipv6", "1"}, {"net/ipv6/conf/default/disable_ipv6", "1"},
			{"net/ipv4/conf/all/forwarding", "1"}, {"net/ipv4/conf/default/forwarding", "1"},
			{"net/ipv4/conf/all/rp_filter", "0"}, {"net/ipv4/conf/default/rp_filter", "0"},
			{"net/ipv4/conf/all/send_redirects", "0"}, {"net/ipv4/conf/default/send_redirects", "0"},
			{"net/ipv4/conf/all/accept_redirects", "0"}, {"net/ipv4/conf/default/accept_redirects", "0"},
			{"net/ipv4/conf/all/accept_source_route", "0"}, {"net/ipv4/conf/default/accept_source_route", "0"},
		} {
			if err := s.write(); err != nil {
				return err
			}
		}
		return nil
	})
}

// inside runs fn in the transit namespace, with a handle to its links.
func inside(cfg *config.Config, fn func(*netlink.Handle) error) error {
	return netns.Do(Path(cfg), func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
}

// ensureLink makes the veth between host and transit with its addresses and routes.
func ensureLink(cfg *config.Config, c choice, mtu int) error {
	host, err := netlink.LinkByName(cfg.HostLink())
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		host, err = makeLink(cfg, mtu)
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", cfg.HostLink(), err)
	}
	if host.Type() != "veth" {
		return fmt.Errorf("link %s exists and is not a veth; rename or remove it", cfg.HostLink())
	}
	if err := ensureUp(cfg, c, mtu); err != nil {
		return fmt.Errorf("link %s in %s: %w", UpLink, cfg.TransitName(), err)
	}
	for _, step := range []func() error{
		func() error { return netlink.LinkSetMTU(host, mtu) },
		func() error { return netlink.AddrReplace(host, &netlink.Addr{IPNet: ipNet(c.Host)}) },
		func() error { return netlink.LinkSetUp(host) },
		func() error {
			return netlink.RouteReplace(&netlink.Route{LinkIndex: host.Attrs().Index, Dst: ipNet(c.Pool), Gw: c.Up.Addr().AsSlice()})
		},
	} {
		if err := step(); err != nil {
			return fmt.Errorf("link %s: %w", cfg.HostLink(), err)
		}
	}
	return nil
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

func ensureUp(cfg *config.Config, c choice, mtu int) error {
	return inside(cfg, func(h *netlink.Handle) error {
		up, err := h.LinkByName(UpLink)
		if err != nil {
			return err
		}
		if err := errors.Join(h.LinkSetMTU(up, mtu), h.AddrReplace(up, &netlink.Addr{IPNet: ipNet(c.Up)}), h.LinkSetUp(up)); err != nil {
			return err
		}
		return h.RouteReplace(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: c.Host.Addr().AsSlice(), Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))})
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
