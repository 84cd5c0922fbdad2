package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/attachment"
	"brig/internal/netpolicy"
	"brig/internal/netpolicy/nft"
	"brig/internal/transit"
	"brig/nodeagent/standing"
)

// Link is the name of a sandbox's link in the transit namespace.
func (n *Network) Link(id string) string {
	return attachment.Key{Network: name, ContainerID: id, IfName: device}.Link()
}

// Standing is what the node has on record; the zero value: nothing is bound.
func (n *Network) Standing(id string) (standing.Standing, error) {
	seat, err := transit.Records(n.cfg).Get(n.Link(id))
	if errors.Is(err, os.ErrNotExist) {
		return standing.Standing{}, nil
	}
	return standingOf(seat), err
}

// Change puts another policy in force and returns what stands once the kernel's rules
// were read back. The error is an ErrAborted if another generation than expected is in
// force; 0: any.
func (n *Network) Change(ctx context.Context, id string, policy netpolicy.Policy, expected uint64, lease time.Duration) (stands standing.Standing, err error) {
	link := n.Link(id)
	err = transit.With(ctx, n.cfg, func(_ context.Context, node transit.Node) error {
		_, failed := node.Change(link, policy, expected, lease)
		seat, err := node.Seat(link)
		stands = standingOf(seat)
		return errors.Join(failed, err)
	})
	switch {
	case errors.Is(err, transit.ErrConflict):
		grant, _ := stands.InForce(transit.Now())
		return stands, errdefs.ErrAborted.WithMessage(fmt.Sprintf("generation %d is in force, not %d: get the policy and decide anew", grant.Generation, expected))
	case errors.Is(err, os.ErrNotExist):
		return stands, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s has no policy that could be changed: %v", id, err))
	}
	return stands, err
}

// Live is what the kernel has now, read back rule by rule and compared with what is on
// record. Nothing is repaired.
func (n *Network) Live(ctx context.Context, id string) (live standing.Live, err error) {
	link := n.Link(id)
	err = transit.Inspect(ctx, n.cfg, func(_ context.Context, node transit.Node) error {
		seat, err := node.Seat(link)
		if errors.Is(err, os.ErrNotExist) {
			return nil // nothing is bound
		}
		if err != nil {
			return err
		}
		live = standing.Live{Standing: standingOf(seat), Addr: seat.Addr, Addr6: seat.Addr6, Node: node.Addresses()}
		if err := node.Verify(link); err != nil {
			live.Difference = err.Error()
			return nil
		}
		pins, err := transit.Rules(n.cfg).Pins(link)
		for _, p := range pins {
			live.Pins = append(live.Pins, standing.Pin{Addr: p.Addr, Port: p.Port, Left: p.TTL})
		}
		return err
	})
	return live, err
}

func standingOf(s nft.Seat) (stands standing.Standing) {
	if s.Grant != nil {
		stands.Grant = &standing.Grant{Policy: s.Grant.Policy, Generation: s.Grant.Generation}
	}
	if s.Lease != nil {
		stands.Lease = &standing.Lease{Grant: standing.Grant{Policy: s.Lease.Policy, Generation: s.Lease.Generation}, Until: s.Lease.Until}
	}
	return stands
}
