package transit

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
)

// Node is a transit namespace in order. It is of use under the lock alone, in the
// function that With runs.
type Node struct {
	Path  string       // of the namespace
	Pool  netip.Prefix // sandbox addresses
	Pool6 netip.Prefix // the same of IPv6; invalid: the node has none
	MTU   int          // of the uplink, in bytes
	// Repaired tells that the rules had to be put in place anew.
	Repaired bool

	rules nft.Rules
	base  nft.Base
	host  nft.Host
	// up and down are the addresses of the node's link: the transit's end and the host's.
	up, down netip.Addr
}

// Records of what is in force for each sandbox. It may be read without the lock.
func Records(cfg *config.Config) nft.Book {
	return nft.Book(filepath.Join(cfg.NetworkDir(), "policies"))
}

// Rules of the node, for what needs no lock: reading.
func Rules(cfg *config.Config) nft.Rules { return nft.In(Path(cfg), string(Records(cfg))) }

// Now is the boot-time clock, by which leases end.
func Now() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 1<<63 - 1 // no lease lasts
	}
	return time.Duration(t.Nano())
}

// Own6 is the node's own address among those of its sandboxes, the last one; invalid
// where there are none of IPv6.
func (n Node) Own6() netip.Addr {
	if !n.Pool6.IsValid() {
		return netip.Addr{}
	}
	return netpolicy.RangeOf(n.Pool6).To
}

// ErrConflict says that a sandbox's policy is not the one that a change was to replace.
var ErrConflict = errors.New("the policy was changed in between")

// Seat of a link as the book has it; os.ErrNotExist: it has no identity.
func (n Node) Seat(link string) (nft.Seat, error) { return n.rules.Book().Get(link) }

// Seats of all links.
func (n Node) Seats() ([]nft.Seat, error) { return n.rules.Book().All() }

// Identify gives a link an identity and no policy: deny. What it had before is gone.
func (n Node) Identify(b nft.Binding) error {
	if err := n.Unbind(b.Link); err != nil {
		return err
	}
	return n.rules.Identify(b)
}

// Bind puts a sandbox's first policy in force, as generation 1. If the same is in force
// already it is verified; another one is ErrConflict.
func (n Node) Bind(link string, policy netpolicy.Policy) (nft.Grant, error) {
	s, err := n.Seat(link)
	if err != nil {
		return nft.Grant{}, fmt.Errorf("bind policy %s: %w", policy, err)
	}
	now := Now()
	if g := s.InForce(now); g != nil {
		if g.Policy.Sum() != policy.Sum() {
			return *g, fmt.Errorf("bind policy %s: %w: %s is in force", policy, ErrConflict, g.Policy)
		}
		return *g, n.rules.Confirm(n.base, s, now)
	}
	next := s
	next.First, next.Grant, next.Lease = policy.Sum(), &nft.Grant{Policy: policy, Generation: 1}, nil
	return *next.Grant, n.rules.Replace(s, next, now)
}

// Change puts another policy in force in one step, for good or, with a lease, for that
// long: the kernel ends it by itself. expected is the generation that it is to replace;
// 0 is any, and another one is ErrConflict. A sandbox that has no policy yet is
// os.ErrNotExist.
func (n Node) Change(link string, policy netpolicy.Policy, expected uint64, lease time.Duration) (nft.Grant, error) {
	s, err := n.Seat(link)
	if err == nil && s.Grant == nil {
		err = fmt.Errorf("link %s has no policy yet: %w", link, os.ErrNotExist)
	}
	if err != nil {
		return nft.Grant{}, fmt.Errorf("change the policy to %s: %w", policy, err)
	}
	now := Now()
	latest := s.Grant.Generation
	if s.Lease != nil {
		latest = max(latest, s.Lease.Generation)
	}
	if current := s.InForce(now).Generation; expected != 0 && expected != current {
		return nft.Grant{}, fmt.Errorf("change the policy to %s: %w: generation %d is in force, not %d", policy, ErrConflict, current, expected)
	}
	next := s
	grant := nft.Grant{Policy: policy, Generation: latest + 1}
	if lease > 0 {
		next.Lease = &nft.Lease{Grant: grant, Until: now + lease}
	} else {
		next.Grant, next.Lease = &grant, nil
	}
	if err := n.rules.Replace(s, next, now); err != nil {
		return nft.Grant{}, err
	}
	return grant, nil
}

// Unbind takes a link's identity and policy away, and the policy itself if nobody else
// has it. A link that is not bound is no error.
func (n Node) Unbind(link string) error {
	s, err := n.Seat(link)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return n.rules.Remove(s)
}

// Verify reads back from the kernel what concerns a link, the base included, and tells
// what is not as it should be.
func (n Node) Verify(link string) error {
	s, err := n.Seat(link)
	if err != nil {
		return err
	}
	return n.rules.Verify(n.base, s, Now())
}

// Confirm reads back from the kernel what is a link's. What all links share was compared
// when the node was, and is again if anybody has changed the rules since.
func (n Node) Confirm(link string) error {
	s, err := n.Seat(link)
	if err != nil {
		return err
	}
	return n.rules.Confirm(n.base, s, Now())
}

// Addresses are the node's own, which no sandbox reaches.
func (n Node) Addresses() []netip.Addr { return slices.Clone(n.base.Node) }

// Pin admits connections of a link's sandbox to the addresses of a name.
func (n Node) Pin(link string, generation uint64, pins []nft.Pin) error {
	return n.rules.Pin(link, generation, pins)
}

// Check tells what of the node's own part of the network is not as it should be, and
// repairs nothing.
func (n Node) Check() error {
	if err := n.host.Check(); err != nil {
		return err
	}
	host, err := netlink.LinkByName(n.host.Link)
	if err != nil {
		return fmt.Errorf("link %s: %w", n.host.Link, err)
	}
	if err := checkEnd(host, n.MTU, n.hostRoutes(host.Attrs().Index)); err != nil {
		return fmt.Errorf("link %s: %w", n.host.Link, err)
	}
	for _, s := range n.hostSettings() {
		if now, err := s.read(); err != nil || now != s.value && now != "" {
			return fmt.Errorf("%s is %q, not %q: %w", s.key, now, s.value, errors.Join(err, errChanged))
		}
	}
	return netns.Do(n.Path, func() error {
		up, err := netlink.LinkByName(UpLink)
		if err == nil {
			err = checkEnd(up, n.MTU, n.upRoutes(up.Attrs().Index))
		}
		if err != nil {
			return fmt.Errorf("link %s: %w", UpLink, err)
		}
		return nil
	})
}

var errChanged = errors.New("changed by somebody else")

// checkEnd of the node's link, in its namespace.
func checkEnd(link netlink.Link, mtu int, routes []*netlink.Route) error {
	if link.Attrs().Flags&net.FlagUp == 0 {
		return fmt.Errorf("is down: %w", errChanged)
	}
	if link.Attrs().MTU != mtu {
		return fmt.Errorf("has an MTU of %d, not %d: %w", link.Attrs().MTU, mtu, errChanged)
	}
	for _, r := range routes {
		there, err := hasRoute(r)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("has no route to %s: %w", r.Dst, errChanged)
		}
	}
	return nil
}

// hostRoutes lead from the host to the sandboxes.
func (n Node) hostRoutes(link int) []*netlink.Route {
	routes := []*netlink.Route{{LinkIndex: link, Dst: ipNet(n.Pool), Gw: n.up.AsSlice()}}
	if n.Pool6.IsValid() {
		routes = append(routes, &netlink.Route{LinkIndex: link, Dst: ipNet(n.Pool6), Gw: upLocal6.Addr().AsSlice()})
	}
	return routes
}

// upRoutes lead from the sandboxes to the host.
func (n Node) upRoutes(link int) []*netlink.Route {
	routes := []*netlink.Route{{LinkIndex: link, Gw: n.down.AsSlice(), Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))}}
	if n.Pool6.IsValid() {
		routes = append(routes, &netlink.Route{LinkIndex: link, Gw: hostLocal6.Addr().AsSlice(), Dst: ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))})
	}
	return routes
}

// hostSettings of the node's own link.
func (n Node) hostSettings() []setting {
	settings := []setting{forwarding(n.host.Link, "1"), {"net/ipv4/conf/" + n.host.Link + "/rp_filter", "0"}}
	if n.Pool6.IsValid() {
		settings = append(settings, forwarding6(n.host.Link, "1"))
	}
	return settings
}
