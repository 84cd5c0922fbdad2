package daemon

import (
	"context"
	"time"

	"brig/internal/transit"
	"brig/nodeagent/clock"
)

// networkEvery is how often the node's network is looked at though nothing is heard.
const networkEvery = 30 * time.Second

// keepNetwork brings the node's network in order soon after anything of the host's, or
// anybody's rules, has changed: addresses come and go, and others flush rule sets.
func (d *daemon) keepNetwork(ctx context.Context) {
	for ctx.Err() == nil {
		watching, cancel := context.WithTimeout(ctx, networkEvery)
		if err := transit.Watch(watching, d.Config, func() { d.mendNetwork(ctx) }); watching.Err() == nil {
			d.Log.Warn("watch the node's network", "err", err)
			clock.Pause(ctx, time.Second)
		}
		cancel()
		d.mendNetwork(ctx)
	}
}

func (d *daemon) mendNetwork(ctx context.Context) {
	err := transit.With(ctx, d.Config, func(_ context.Context, n transit.Node) error {
		if n.Repaired {
			d.Log.Warn("the transit rule set was not as it was loaded and is in place anew")
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		d.Log.Error("bring the node's network in order", "err", err)
	}
}
