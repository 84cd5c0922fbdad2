package cni

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"brig/cni/lease"
	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
)

// Check tells what of an attachment is missing. The address inside the sandbox's
// namespace is not looked at: a sentry that runs has taken it over.
func Check(ctx context.Context, cfg *config.Config, r Request) error {
	if untouched(cfg) {
		return fmt.Errorf("check %s: the node has no transit namespace", r.ContainerID)
	}
	err := transit.Inspect(ctx, cfg, func(_ context.Context, node transit.Node) error {
		l, err := leases(cfg).Find(r.Link())
		if err != nil {
			return err
		}
		if err := verify(cfg, node, r.NetNS, l); err != nil || r.Policy == nil {
			return err
		}
		s, err := node.Seat(l.Link)
		if err != nil {
			return err
		}
		if s.First != r.Policy.Sum() {
			return fmt.Errorf("link %s was not made with the policy %s", l.Link, *r.Policy)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check %s: %w", r.ContainerID, err)
	}
	return nil
}

// verify compares lease, rules and both ends of the link.
func verify(cfg *config.Config, node transit.Node, sandbox string, l lease.Lease) error {
	if !leases(cfg).Holds(l) {
		return fmt.Errorf("address %s is not reserved", l.Address)
	}
	if s, err := node.Seat(l.Link); err != nil || s.Binding != binding(l) {
		return fmt.Errorf("link %s has no identity in the rule set: %w", l.Link, err)
	}
	if err := errors.Join(node.Verify(l.Link), node.Check()); err != nil {
		return err
	}
	var peer int
	if err := netns.Do(node.Path, func() (err error) { peer, err = verifyLink(l); return err }); err != nil {
		return fmt.Errorf("link %s: %w", l.Link, err)
	}
	if err := netns.Do(sandbox, func() error { return verifySandbox(l, peer) }); err != nil {
		return fmt.Errorf("interface %s of the sandbox: %w", l.IfName, err)
	}
	return nil
}

// verifyLink runs in the transit namespace and returns the index of the other end.
func verifyLink(l lease.Lease) (peer int, err error) {
	link, err := netlink.LinkByName(l.Link)
	if err != nil {
		return 0, err
	}
	alias, err := l.Identity().Alias()
	if err != nil {
		return 0, err
	}
	attrs := link.Attrs()
	if attrs.Alias != alias || attrs.RawFlags&1 == 0 || !bytes.Equal(attrs.HardwareAddr, attachment.GatewayMAC) {
		return 0, errors.New("down, or with another alias or MAC address than it was given")
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, transitRoute(attrs.Index, l.Address), netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST)
	if err != nil || len(routes) == 0 {
		return 0, fmt.Errorf("no route to %s: %w", l.Address, errors.Join(err, errMissing))
	}
	neighbours, err := netlink.NeighList(attrs.Index, netlink.FAMILY_V4)
	if err != nil {
		return 0, err
	}
	want := neighbour(attrs.Index, l.Address, attachment.MAC(l.Address))
	if !slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
		return n.IP.Equal(want.IP) && n.State == want.State && bytes.Equal(n.HardwareAddr, want.HardwareAddr)
	}) {
		return 0, fmt.Errorf("no permanent neighbour %s: %w", l.Address, errMissing)
	}
	return attrs.ParentIndex, nil
}

var errMissing = errors.New("missing")

func verifySandbox(l lease.Lease, index int) error {
	link, err := netlink.LinkByName(l.IfName)
	if err != nil {
		return err
	}
	if link.Attrs().Index != index || !bytes.Equal(link.Attrs().HardwareAddr, attachment.MAC(l.Address)) {
		return fmt.Errorf("not the other end of %s, or with another MAC address than it was given", l.Link)
	}
	return nil
}
