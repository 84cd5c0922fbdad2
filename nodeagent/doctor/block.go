package doctor

import (
	"context"

	"brig/internal/netpolicy"
	"brig/internal/transit"
)

// block puts a policy that admits nothing in force for one of the doctor's sandboxes.
func (n *node) block(ctx context.Context, link string) error {
	if n.Block != nil {
		return n.Block(ctx, link)
	}
	return transit.With(ctx, n.Config, func(ctx context.Context, t transit.Node) error {
		return t.Rules.Bind(ctx, link, netpolicy.Policy{})
	})
}
