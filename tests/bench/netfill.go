package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"brig/cni"
	"brig/internal/attachment"
	"brig/internal/netns"
	"brig/internal/netpolicy"
	"brig/internal/transit"
)

// fill brings the node to n attachments that stay, with what a real one has: a lease,
// an identity, the policy, a veth, a route, a neighbour. Their other ends share a
// namespace, and the plugin's own functions are called rather than executed, since
// nothing here is measured.
func (w *world) fill(ctx context.Context, n int, policy netpolicy.Policy, progress io.Writer) error {
	if w.filled == 0 {
		if _, err := w.namespace("farm"); err != nil {
			return err
		}
	}
	err := w.onHost(func() error {
		for ; w.filled < n; w.filled++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := w.attach(ctx, "farm", fmt.Sprint("f", w.filled), &policy); err != nil {
				return err
			}
			if w.filled%100 == 99 {
				fmt.Fprintf(progress, "\r%d of %d attachments", w.filled+1, n)
			}
		}
		return nil
	})
	fmt.Fprintln(progress)
	return err
}

// attach an interface in a namespace of the world; on the host.
func (w *world) attach(ctx context.Context, namespace, ifname string, policy *netpolicy.Policy) error {
	_, err := cni.Attach(ctx, &w.cfg, cni.Request{Key: key(namespace, ifname), NetNS: netns.Path(w.id + "-" + namespace), Policy: policy})
	return err
}

func key(namespace, ifname string) attachment.Key {
	return attachment.Key{Network: "bench", ContainerID: namespace, IfName: ifname}
}

// sandbox makes a namespace of its own and attaches it.
func (w *world) sandbox(ctx context.Context, name string, policy netpolicy.Policy) error {
	if _, err := w.namespace(name); err != nil {
		return err
	}
	return w.onHost(func() error { return w.attach(ctx, name, "eth0", &policy) })
}

// change does something to the node's rules as the gate does it, and tells how long that
// took: alone, and with what finds the node's network in order before.
func (w *world) change(ctx context.Context, fn func(transit.Node) error) (alone, whole time.Duration, err error) {
	err = w.onHost(func() error {
		begin := time.Now()
		defer func() { whole = time.Since(begin) }()
		return transit.With(ctx, &w.cfg, func(_ context.Context, node transit.Node) error {
			begin := time.Now()
			defer func() { alone = time.Since(begin) }()
			return fn(node)
		})
	})
	return alone, whole, err
}

// rebind gives a link that has a policy another one, until it was read back.
func (w *world) rebind(ctx context.Context, link string, policy netpolicy.Policy) (alone, whole time.Duration, err error) {
	return w.change(ctx, func(node transit.Node) error {
		_, err := node.Change(link, policy, 0, 0)
		return err
	})
}

// bind gives a link its first policy, again: its identity is made anew before.
func (w *world) bind(ctx context.Context, link string, policy netpolicy.Policy) (alone, whole time.Duration, err error) {
	_, _, err = w.change(ctx, func(node transit.Node) error {
		seat, err := node.Seat(link)
		if err != nil {
			return err
		}
		return node.Identify(seat.Binding)
	})
	time.Sleep(rest)
	if err != nil {
		return 0, 0, err
	}
	return w.change(ctx, func(node transit.Node) error {
		_, err := node.Bind(link, policy)
		return err
	})
}

// policy of a list that admits the server, and n-1 other ranges that do not merge: of
// each /24 its lower half, its last address, or one in between.
func (w *world) policy(n int, first netip.Addr) (netpolicy.Policy, error) {
	list := make([]string, 0, n)
	list = append(list, serverAddr.String()+"/32")
	for b := first.As4(); len(list) < n; b = next24(b) {
		ends := [...]string{"0/25", "255/32", "7/32"}
		list = append(list, fmt.Sprintf("%d.%d.%d.%s", b[0], b[1], b[2], ends[len(list)%len(ends)]))
	}
	ceiling, err := w.cfg.Network.PolicyCeiling()
	if err != nil {
		return netpolicy.Policy{}, err
	}
	p, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &list}, ceiling)
	if err == nil && len(p.Ranges()) != n {
		err = fmt.Errorf("the list has %d ranges, not %d", len(p.Ranges()), n)
	}
	return p, err
}

func next24(b [4]byte) [4]byte {
	n := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	n++
	return [4]byte{byte(n >> 16), byte(n >> 8), byte(n), 0}
}
