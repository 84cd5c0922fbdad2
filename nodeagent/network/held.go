package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/lease"
	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
	"brig/internal/sandbox"
	"brig/internal/transit"
)

// Held is one thing that the node's network holds for an attachment.
type Held struct {
	// Kind is link, route, lease, policy (as it is on record), identity (as the kernel
	// knows it), rules (read back from the kernel, and as they are on record), netns,
	// attachment (libcni's note), conntrack (connections that the kernel remembers of an
	// address that nobody has) or fault: what of the node's own network is not in order.
	Kind string
	Name string
	// Owner is the id of the sandbox; empty: nobody knows.
	Owner string
}

// Held lists all of it but what belongs to others than brigd's sandboxes. It changes
// nothing.
func (n *Network) Held(ctx context.Context) ([]Held, error) {
	var l look
	err := transit.Inspect(ctx, n.cfg, func(_ context.Context, node transit.Node) error { return l.take(n.cfg, node) })
	if errors.Is(err, os.ErrNotExist) {
		l.add("fault", "the node has no network", "")
		err = nil
	}
	attached, failed := n.Attached()
	for _, id := range attached {
		l.add("attachment", id, id)
	}
	return l.held, errors.Join(err, failed, n.verifyRules(ctx, &l))
}

// verifyRules reads the rules of each sandbox back under a lock of its own: for all of
// them at once it would be held too long.
func (n *Network) verifyRules(ctx context.Context, l *look) error {
	for _, h := range l.held {
		if h.Kind != "policy" {
			continue
		}
		var fault error
		err := transit.Inspect(ctx, n.cfg, func(_ context.Context, node transit.Node) error {
			fault = node.Verify(h.Name)
			return nil
		})
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return err
		case fault == nil:
			l.add("rules", h.Name, h.Owner)
		default:
			l.add("fault", "the rules of "+h.Name+": "+fault.Error(), "")
		}
	}
	return nil
}

// look at the network of a node, under its lock.
type look struct {
	held   []Held
	owners map[string]attachment.Key // of links
	leases []lease.Lease
}

func (l *look) add(kind, name, owner string) { l.held = append(l.held, Held{kind, name, owner}) }

// ours tells whose a link is; false: somebody's who uses the network without brigd.
func (l *look) ours(link string) (owner string, ours bool) {
	key, known := l.owners[link]
	if !known {
		return "", true
	}
	_, err := sandbox.ParseID(key.ContainerID)
	return key.ContainerID, key.Network == name && err == nil
}

func (l *look) addOurs(kind, name, link string) {
	if owner, ours := l.ours(link); ours {
		l.add(kind, name, owner)
	}
}

func (l *look) take(cfg *config.Config, node transit.Node) (err error) {
	l.owners = map[string]attachment.Key{}
	if l.leases, err = lease.Dir(filepath.Join(cfg.NetworkDir(), "leases")).All(); err != nil {
		return err
	}
	for _, one := range l.leases {
		l.owners[one.Link] = one.Identity().Key
	}
	if err := node.Check(); err != nil {
		l.add("fault", err.Error(), "")
	}
	if err := netns.Do(node.Path, l.links); err != nil {
		return fmt.Errorf("list the links of sandboxes: %w", err)
	}
	leased := map[netip.Addr]bool{}
	for _, one := range l.leases {
		leased[one.Address] = true
		l.addOurs("lease", one.Address.String()+" "+one.Link, one.Link)
	}
	if err := l.policies(cfg, node); err != nil {
		return err
	}
	return l.connections(node, leased)
}

// links of the transit namespace, whose aliases say whose they are, and the routes that
// lead to them. Those that wait to be removed are nobody's.
func (l *look) links() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	byIndex := map[int]string{}
	for _, link := range links {
		a := link.Attrs()
		if !strings.HasPrefix(a.Name, attachment.LinkPrefix) || a.Group == attachment.DeadGroup {
			continue
		}
		byIndex[a.Index] = a.Name
		if id, err := attachment.ParseAlias(a.Alias); err == nil {
			l.owners[a.Name] = id.Key
		}
	}
	for _, link := range byIndex {
		l.addOurs("link", link, link)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	for _, r := range routes {
		if link, ok := byIndex[r.LinkIndex]; ok && r.Dst != nil {
			l.addOurs("route", r.Dst.IP.String()+" "+link, link)
		}
	}
	return err
}

func (l *look) policies(cfg *config.Config, node transit.Node) error {
	seats, err := node.Seats()
	if err != nil {
		return err
	}
	for _, s := range seats {
		l.addOurs("policy", s.Link, s.Link)
	}
	live, err := transit.Rules(cfg).Live()
	for _, one := range live {
		l.addOurs("identity", identity(one), one.Link)
	}
	return err
}

func identity(l nft.Live) string { return l.Addr.String() + " " + l.Link }

// connections that the kernel remembers of addresses that nobody has.
func (l *look) connections(node transit.Node, leased map[netip.Addr]bool) error {
	var flows []*netlink.ConntrackFlow
	err := netns.Do(node.Path, func() (err error) {
		flows, err = netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		return err
	})
	if err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	remembered := map[netip.Addr]bool{}
	for _, f := range flows {
		for _, ip := range [][]byte{f.Forward.SrcIP, f.Forward.DstIP, f.Reverse.SrcIP, f.Reverse.DstIP} {
			a, ok := netip.AddrFromSlice(ip)
			if a = a.Unmap(); ok && node.Pool.Contains(a) && !leased[a] {
				remembered[a] = true
			}
		}
	}
	for a := range remembered {
		l.add("conntrack", a.String(), "")
	}
	return nil
}

// Owners lists the sandboxes of which the network holds anything.
func (n *Network) Owners(ctx context.Context) (ids []string, err error) {
	var l look
	err = transit.Inspect(ctx, n.cfg, func(_ context.Context, node transit.Node) error { return l.take(n.cfg, node) })
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, h := range l.held {
		if h.Owner != "" {
			ids = append(ids, h.Owner)
		}
	}
	return ids, err
}
