package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"brig/internal/netpolicy"
	"brig/internal/transit"
	brigv1 "brig/nodeagent/api/brig/v1"
)

// wanted is a policy that a sandbox of the doctor is to have.
type wanted struct {
	asked *brigv1.NetworkPolicy // of brigd
	spec  netpolicy.Spec        // the same
}

func wantOpen() wanted { return wanted{asked: &brigv1.NetworkPolicy{}} }

func wantList(cidrs ...string) wanted {
	return wanted{
		asked: &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{Cidrs: cidrs}},
		spec:  netpolicy.Spec{CIDRAllowlist: &cidrs},
	}
}

// narrowed tells that the operator narrows what sandboxes get: then brigd would refuse
// what the doctor needs, or give less.
func (n *node) narrowed() bool {
	return n.Config.Network.Default != nil || n.Config.Network.Ceiling != nil
}

// request is what to ask of brigd for a sandbox of that policy.
func (n *node) request(w wanted) *brigv1.NetworkPolicy {
	if n.narrowed() {
		return &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{}} // within every ceiling
	}
	return w.asked
}

// widen gives a sandbox what brigd was not asked for: the policy that an operator's
// ceiling would have refused, and ranges of IPv6. The doctor's own sandboxes alone get
// it, and they talk to documentation ranges.
func (n *node) widen(ctx context.Context, b *box, w wanted) error {
	if !n.narrowed() && !b.addr6.IsValid() {
		return nil
	}
	spec := w.spec
	if spec.CIDRAllowlist != nil && b.addr6.IsValid() {
		cidrs := append(slices.Clone(*spec.CIDRAllowlist), yes6.String())
		spec.CIDRAllowlist = &cidrs
	}
	p, err := netpolicy.Compile(spec, netpolicy.Ceiling{})
	if err == nil {
		err = n.put(ctx, b.transit, p)
	}
	if err != nil {
		return fmt.Errorf("give sandbox %s its policy: %w", b.name, err)
	}
	return nil
}

// askSix finds out whether sandboxes of the node have IPv6.
func (n *node) askSix(ctx context.Context) error {
	return transit.With(ctx, n.Config, func(_ context.Context, t transit.Node) error {
		n.six = t.Pool6.IsValid()
		return nil
	})
}

// sixOf is the sandbox's address of IPv6 as it is bound; invalid: it has none.
func (n *node) sixOf(b *box) (netip.Addr, error) {
	seat, err := transit.Records(n.Config).Get(b.transit)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look at what is bound to sandbox %s: %w", b.name, err)
	}
	return seat.Addr6, nil
}

// block puts a policy that admits nothing in force for one of the doctor's sandboxes.
func (n *node) block(ctx context.Context, link string) error {
	if n.Block != nil {
		return n.Block(ctx, link)
	}
	return n.put(ctx, link, netpolicy.Policy{})
}

// put a policy in force on a link of the doctor's own.
func (n *node) put(ctx context.Context, link string, p netpolicy.Policy) error {
	return transit.With(ctx, n.Config, func(_ context.Context, t transit.Node) error {
		_, err := t.Change(link, p, 0, 0)
		return err
	})
}
