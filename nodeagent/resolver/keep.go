package resolver

import (
	"context"
	"errors"
	"net"

	"brig/nodeagent/place"
)

// Place is where the resolver listens: a network namespace that can be made anew.
type Place interface {
	// Identity changes when the place is another one.
	Identity() (string, error)
	ListenPacket(ctx context.Context) (net.PacketConn, error)
	Listen(ctx context.Context) (net.Listener, error)
}

// Keep serves in p until ctx ends, and begins anew whenever the place is another one or
// serving broke.
func (r *Resolver) Keep(ctx context.Context, p Place) {
	place.Keep(ctx, p.Identity, func(ctx context.Context) error { return r.serveIn(ctx, p) }, r.cfg.Log)
}

func (r *Resolver) serveIn(ctx context.Context, p Place) error {
	packets, err := p.ListenPacket(ctx)
	if err != nil {
		return err
	}
	streams, err := p.Listen(ctx)
	if err != nil {
		return errors.Join(err, packets.Close())
	}
	return r.Serve(ctx, packets, streams)
}
