package doctor

import (
	"context"

	"brig/internal/config"
	"brig/internal/netpolicy"
	"brig/internal/transit"
)

// block puts a policy that admits nothing in force for one of the doctor's sandboxes.
func block(ctx context.Context, cfg *config.Config, link string) error {
	return transit.With(ctx, cfg, func(ctx context.Context, n transit.Node) error {
		return n.Rules.Bind(ctx, link, netpolicy.Policy{})
	})
}
