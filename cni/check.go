package cni

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/lease"
	"brig/internal/transit"
)

// Check tells what of an attachment, or of the node's network that carries it, is
// missing or changed; it repairs nothing. What a running sentry has taken from the
// sandbox's interface is not missed.
func Check(ctx context.Context, cfg *config.Config, r Request) error {
	if untouched(cfg) {
		return fmt.Errorf("check %s: the node has no transit namespace", r.ContainerID)
	}
	err := transit.Inspect(ctx, cfg, func(_ context.Context, node transit.Node) error {
		if err := checkAll(cfg, node, r); err != nil {
			return err
		}
		return transit.CheckForwarding(cfg)
	})
	if err != nil {
		return fmt.Errorf("check %s: %w", r.ContainerID, err)
	}
	return nil
}

func checkAll(cfg *config.Config, node transit.Node, r Request) error {
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
}

// verify compares lease, rules and both ends of the link.
func verify(cfg *config.Config, node transit.Node, sandbox string, l lease.Lease) error {
	if !leases(cfg).Holds(l) {
		return fmt.Errorf("address %s is not reserved", l.Address)
	}
	s, err := node.Seat(l.Link)
	if err == nil && s.Binding != binding(l) {
		err = fmt.Errorf("it is %v, not %v", s.Binding, binding(l))
	}
	if err != nil {
		return fmt.Errorf("link %s has no identity in the rule set: %w", l.Link, err)
	}
	if err := errors.Join(node.Verify(l.Link), node.Check()); err != nil {
		return err
	}
	var peer int
	err = handled(node.Path, func(h *netlink.Handle) (err error) { peer, err = verifyLink(h, l); return err })
	if err != nil {
		return fmt.Errorf("link %s: %w", l.Link, err)
	}
	if err := handled(sandbox, func(h *netlink.Handle) error { return verifySandbox(h, l, peer) }); err != nil {
		return fmt.Errorf("interface %s of the sandbox: %w", l.IfName, err)
	}
	return nil
}

// verifyLink runs in the transit namespace and returns the index of the other end.
func verifyLink(h *netlink.Handle, l lease.Lease) (peer int, err error) {
	link, err := h.LinkByName(l.Link)
	if err != nil {
		return 0, err
	}
	alias, err := l.Identity().Alias()
	if err != nil {
		return 0, err
	}
	a := link.Attrs()
	switch {
	case a.Alias != alias:
		return 0, fmt.Errorf("its alias is %q, not the %q that it was given", a.Alias, alias)
	case a.Flags&net.FlagUp == 0:
		return 0, errors.New("it is down")
	case !bytes.Equal(a.HardwareAddr, attachment.GatewayMAC):
		return 0, fmt.Errorf("its MAC address is %s, not the %s that it was given", a.HardwareAddr, attachment.GatewayMAC)
	}
	for _, address := range addresses(l) {
		if err := verifyRoutes(h, link, transitRoute(a.Index, address)); err != nil {
			return 0, err
		}
		if err := verifyNeighbour(h, neighbour(a.Index, address, attachment.MAC(l.Address))); err != nil {
			return 0, err
		}
	}
	return a.ParentIndex, nil
}

func verifySandbox(h *netlink.Handle, l lease.Lease, index int) error {
	link, err := h.LinkByName(l.IfName)
	if err != nil {
		return err
	}
	a := link.Attrs()
	switch {
	case a.Index != index:
		return fmt.Errorf("it is not the other end of %s", l.Link)
	case !bytes.Equal(a.HardwareAddr, attachment.MAC(l.Address)):
		return fmt.Errorf("its MAC address is %s, not the %s that it was given", a.HardwareAddr, attachment.MAC(l.Address))
	case a.Flags&net.FlagUp == 0:
		return errors.New("it is down")
	}
	for _, address := range addresses(l) {
		if err := verifyAddress(h, link, address); err != nil {
			return err
		}
	}
	return nil
}

// verifyAddress looks for the address and what depends on it. A sentry takes the
// address off the interface, and the routes go with it.
func verifyAddress(h *netlink.Handle, link netlink.Link, a netip.Addr) error {
	has, err := h.AddrList(link, familyOf(a))
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	if !slices.ContainsFunc(has, func(b netlink.Addr) bool { return b.IPNet.String() == host(a).String() }) {
		taken, err := takenOver(index)
		if taken || err != nil {
			return err
		}
		return fmt.Errorf("it lacks its address %s", a)
	}
	if err := verifyRoutes(h, link, sandboxRoutes(index, a)...); err != nil {
		return err
	}
	return verifyNeighbour(h, neighbour(index, gatewayOf(a), attachment.GatewayMAC))
}

// takenOver tells whether somebody in the current namespace has a packet socket on the
// link, as a sentry does that serves it.
func takenOver(index int) (bool, error) {
	data, err := os.ReadFile("/proc/thread-self/net/packet")
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(data) {
		// sk RefCnt Type Proto Iface R Rmem User Inode
		if fields := bytes.Fields(line); len(fields) > 4 && string(fields[4]) == fmt.Sprint(index) {
			return true, nil
		}
	}
	return false, nil
}

func verifyRoutes(h *netlink.Handle, link netlink.Link, want ...*netlink.Route) error {
	has, err := h.RouteList(link, want[0].Family)
	if err != nil {
		return err
	}
	for _, w := range want {
		if !slices.ContainsFunc(has, func(r netlink.Route) bool { return destination(&r) == destination(w) && r.Gw.Equal(w.Gw) }) {
			return fmt.Errorf("it lacks its route to %s", destination(w))
		}
	}
	return nil
}

func destination(r *netlink.Route) string {
	if r.Dst == nil {
		return "everywhere"
	}
	if ones, _ := r.Dst.Mask.Size(); ones == 0 {
		return "everywhere"
	}
	return r.Dst.String()
}

func verifyNeighbour(h *netlink.Handle, want *netlink.Neigh) error {
	has, err := h.NeighList(want.LinkIndex, want.Family)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(has, func(n netlink.Neigh) bool {
		return n.IP.Equal(want.IP) && n.State == want.State && bytes.Equal(n.HardwareAddr, want.HardwareAddr)
	}) {
		return fmt.Errorf("it lacks its permanent neighbour %s", want.IP)
	}
	return nil
}
