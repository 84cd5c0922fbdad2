package cni

import (
	"context"

	"github.com/containernetworking/cni/pkg/types"

	"brig/internal/config"
	"brig/internal/transit"
)

// Status tells whether an ADD would work: a CNI error of code 50 and the reason if it
// would not, of code 51 if sandboxes can be attached but the host keeps their packets. A
// node that has a network is brought in order, as an ADD would; one that has none yet is
// left so.
func Status(ctx context.Context, cfg *config.Config) error {
	if err := ready(ctx, cfg); err != nil {
		return types.NewError(types.ErrPluginNotAvailable, "brig-cni cannot attach sandboxes", err.Error())
	}
	if err := Forwarding(cfg); err != nil {
		return types.NewError(types.ErrLimitedConnectivity, "sandboxes cannot be reached, nor reach anything", err.Error())
	}
	return nil
}

func ready(ctx context.Context, cfg *config.Config) error {
	if untouched(cfg) {
		return nil
	}
	return transit.With(ctx, cfg, func(_ context.Context, node transit.Node) error {
		return leases(cfg).Room(node.Pool)
	})
}
