package daemon

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/brig/client"
	"brig/nodeagent/notify"
)

// keepAlive tells systemd's watchdog how brigd fares.
func (d *daemon) keepAlive(ctx context.Context) {
	api := client.New(d.Config.Socket)
	if err := notify.Watchdog(ctx, func(ctx context.Context) error { return d.alive(ctx, api) }, d.Log); err != nil {
		d.Log.Error("tell the watchdog how brigd fares", "err", err)
	}
}

// alive tells whether brigd does its work: its store can be read and written, as far as
// a restart would change that, and its socket answers. A full disk is no reason to
// restart, and containerd's absence is not brigd's.
func (d *daemon) alive(ctx context.Context, api *client.Client) error {
	probed := make(chan error, 1)
	go func() { probed <- d.store.Probe() }() // a disk that hangs must not hang us
	select {
	case err := <-probed:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return fmt.Errorf("the store does not answer: %w", context.Cause(ctx))
	}
	if _, err := api.Node.CA(ctx, connect.NewRequest(&brigv1.CARequest{})); err != nil {
		return fmt.Errorf("the socket does not answer: %w", err)
	}
	return nil
}
