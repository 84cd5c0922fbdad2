package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/lease"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
	"brig/internal/undo"
)

// Request to connect a network namespace.
type Request struct {
	attachment.Key
	NetNS  string            // path of the sandbox's network namespace
	Policy *netpolicy.Policy // nil: deny, until the gate binds one
	// Address and Addr6 are what an IPAM plugin picked; invalid: the node's own
	// allocator picks.
	Address, Addr6 netip.Addr
	// Start starts the reaper, should one be overdue; nil: what is overdue is done
	// before the return.
	Start Starter
}

// Attachment that was made.
type Attachment struct {
	lease.Lease
	NetNSPath string
	Transit   string // path of the namespace of the other end
	MTU       int
}

func leases(cfg *config.Config) lease.Dir {
	return lease.Dir(filepath.Join(cfg.NetworkDir(), "leases"))
}

// Attach connects the sandbox. Asked again for one that is whole it returns the same;
// what is left of one that is not, it replaces.
func Attach(ctx context.Context, cfg *config.Config, r Request) (a Attachment, err error) {
	if r.Policy != nil {
		if err := checkCeiling(*r.Policy, cfg); err != nil {
			return Attachment{}, err
		}
	}
	err = transit.With(ctx, cfg, func(ctx context.Context, node transit.Node) (err error) {
		a, err = attach(ctx, cfg, node, r)
		reapOverdue(cfg, r.Start)
		return err
	})
	if err != nil {
		return Attachment{}, fmt.Errorf("attach %s: %w", r.ContainerID, err)
	}
	return a, nil
}

// Attached tells whether the attachment is there already, whole.
func Attached(ctx context.Context, cfg *config.Config, r Request) (there bool, err error) {
	err = transit.With(ctx, cfg, func(_ context.Context, node transit.Node) error {
		id, err := identify(node, r)
		if err == nil {
			_, missing := whole(cfg, node, r, id)
			there = missing == nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("attach %s: %w", r.ContainerID, err)
	}
	return there, nil
}

func attach(ctx context.Context, cfg *config.Config, node transit.Node, r Request) (_ Attachment, err error) {
	id, err := identify(node, r)
	if err != nil {
		return Attachment{}, err
	}
	a, err := whole(cfg, node, r, id)
	if err == nil {
		return a, rebind(node, a.Link, r.Policy)
	}
	if err := clearAway(cfg, node, r.Link()); err != nil {
		return Attachment{}, err
	}
	var steps undo.Stack
	defer steps.Undo(ctx, &err)
	// One step takes back all of what follows, however far it came: it is what
	// DEL does after a kill, too.
	steps.Push("detach", func(context.Context) error { return detach(cfg, node, r.Link(), nil) })
	l, err := reserve(cfg, node, r, id)
	if err != nil {
		return Attachment{}, err
	}
	if err := node.Identify(binding(l)); err != nil {
		return Attachment{}, err
	}
	if err := plumb(node, r.NetNS, l); err != nil {
		return Attachment{}, err
	}
	if r.Policy != nil {
		if _, err := node.Bind(l.Link, *r.Policy); err != nil {
			return Attachment{}, err
		}
	}
	steps.Release()
	return Attachment{Lease: l, NetNSPath: r.NetNS, Transit: node.Path, MTU: node.MTU}, nil
}

// clearAway removes what a killed ADD left, or one of another namespace. Most have
// nothing to remove, and learn that by one look: a link without a lease is dealt with
// where it is in the way, and rules alone the new identity replaces.
func clearAway(cfg *config.Config, node transit.Node, link string) error {
	_, err := leases(cfg).Find(link)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return detach(cfg, node, link, nil)
}

// reserve leases the addresses. Connections of an address were forgotten before it
// was given back, so only the first lease of all must forget what the kernel kept from
// before there were leases.
func reserve(cfg *config.Config, node transit.Node, r Request, id attachment.Identity) (lease.Lease, error) {
	d := leases(cfg)
	if !d.Begun() {
		if err := flushPool(node.Path, pools(node)...); err != nil {
			return lease.Lease{}, err
		}
	}
	if !r.Address.IsValid() {
		return d.Take(id, node.Pool, node.Pool6)
	}
	if err := policeable(node, r); err != nil {
		return lease.Lease{}, err
	}
	return d.Claim(id, r.Address, r.Addr6)
}

// policeable tells whether the rules and routes of the node cover the addresses that an
// IPAM plugin picked. What lies outside the node's pools overlaps somebody else's, or is
// reached by another way than through the rules.
func policeable(node transit.Node, r Request) error {
	usable := netip.PrefixFrom(r.Address, node.Pool.Bits()).Masked() == node.Pool &&
		r.Address != node.Pool.Addr() && node.Pool.Contains(r.Address.Next())
	if !usable {
		return invalid("the IPAM plugin gave %s, which is none of this node's sandbox addresses (%s): set network.pool of brig's configuration and the plugin's range to the same", r.Address, node.Pool)
	}
	switch {
	case r.Addr6.IsValid() && !node.Pool6.IsValid():
		return invalid("the IPAM plugin gave %s, but this node's sandboxes have no IPv6: take its IPv6 range out", r.Addr6)
	case r.Addr6.IsValid() && (!node.Pool6.Contains(r.Addr6) || r.Addr6 == node.Pool6.Addr() || r.Addr6 == node.Own6()):
		return invalid("the IPAM plugin gave %s, which is none of this node's sandbox addresses (%s): set network.pool6 of brig's configuration and the plugin's range to the same", r.Addr6, node.Pool6)
	}
	return nil
}

// pools of the node: one, or two.
func pools(node transit.Node) []netip.Prefix {
	if node.Pool6.IsValid() {
		return []netip.Prefix{node.Pool, node.Pool6}
	}
	return []netip.Prefix{node.Pool}
}

// identify refuses namespaces in which no sandbox may live: the host's, whose
// addresses runsc would strip, and the transit.
func identify(node transit.Node, r Request) (attachment.Identity, error) {
	inode, err := netns.ID(r.NetNS)
	if err != nil {
		return attachment.Identity{}, err
	}
	for path, name := range map[string]string{"/proc/thread-self/ns/net": "the host's", "/proc/1/ns/net": "the machine's", node.Path: "the node's transit"} {
		if other, err := netns.ID(path); err == nil && other == inode {
			return attachment.Identity{}, fmt.Errorf("%s is %s network namespace: a sandbox needs its own", r.NetNS, name)
		}
	}
	id := attachment.Identity{Key: r.Key, NetNS: inode}
	_, err = id.Alias()
	return id, err
}

func binding(l lease.Lease) nft.Binding {
	return nft.Binding{Link: l.Link, MAC: attachment.MAC(l.Address).String(), Addr: l.Address, Addr6: l.Addr6}
}

// whole returns the attachment if it is there already, complete, for this very
// namespace: a caller that died before it read the answer asks again.
func whole(cfg *config.Config, node transit.Node, r Request, id attachment.Identity) (Attachment, error) {
	l, err := leases(cfg).Find(r.Link())
	if err != nil {
		return Attachment{}, err
	}
	if l.Identity() != id {
		return Attachment{}, errors.New("of another namespace")
	}
	if err := verify(cfg, node, r.NetNS, l); err != nil {
		return Attachment{}, err
	}
	return Attachment{Lease: l, NetNSPath: r.NetNS, Transit: node.Path, MTU: node.MTU}, nil
}

// rebind gives an attachment that is there the policy, unless it has another one:
// ADD is no way to change a running sandbox's policy.
func rebind(node transit.Node, link string, policy *netpolicy.Policy) error {
	if policy == nil {
		return nil
	}
	_, err := node.Bind(link, *policy)
	return err
}

// Detach removes all there is of an attachment. What is not there is no error. The link
// itself goes a little later, by the reaper that start starts; nil: before the return.
func Detach(ctx context.Context, cfg *config.Config, k attachment.Key, start Starter) error {
	if untouched(cfg) {
		return nil
	}
	with := transit.With
	if !netns.Exists(cfg.TransitName()) { // it is not made to remove something from it
		with = func(ctx context.Context, cfg *config.Config, fn func(context.Context, transit.Node) error) error {
			return transit.Locked(ctx, cfg, func(ctx context.Context) error { return fn(ctx, transit.Node{}) })
		}
	}
	err := with(ctx, cfg, func(_ context.Context, node transit.Node) error { return detach(cfg, node, k.Link(), start) })
	if err != nil {
		return fmt.Errorf("detach %s: %w", k.ContainerID, err)
	}
	return nil
}

// untouched tells that the node has no network at all, so that removing something
// from it does not begin by making a lock file.
func untouched(cfg *config.Config) bool {
	_, err := os.Stat(cfg.NetworkDir())
	return errors.Is(err, os.ErrNotExist) && !netns.Exists(cfg.TransitName())
}

// detach cuts off first and gives the address back only if everything before went
// well: an address in doubt stays leased, and the next DEL tries again.
func detach(cfg *config.Config, node transit.Node, link string, start Starter) error {
	var errs []error
	if node.Path != "" {
		errs = append(errs, node.Unbind(link))
		buried, err := bury(node.Path, link)
		errs = append(errs, err)
		if buried {
			defer func() { _ = haveReaped(cfg, start) }() // a dead link is nobody's: it may stay until the next time
		}
	}
	l, err := leases(cfg).Find(link)
	if errors.Is(err, os.ErrNotExist) {
		return errors.Join(append(errs, leases(cfg).Tidy())...)
	}
	errs = append(errs, err)
	if leases(cfg).Holds(l) {
		errs = append(errs, flushConntrack(transit.Path(cfg), addresses(l)...))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return leases(cfg).Free(l)
}
