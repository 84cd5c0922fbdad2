package resolver

import (
	"context"
	"errors"
	"net"
	"time"
)

// Place is where the resolver listens: a network namespace that can be made anew
// under its feet, with which its sockets would be gone without any error.
type Place interface {
	// Identity changes when the place is another one.
	Identity() (string, error)
	ListenPacket(ctx context.Context) (net.PacketConn, error)
	Listen(ctx context.Context) (net.Listener, error)
}

// lookEvery is how soon another place is noticed.
const lookEvery = 2 * time.Second

// Keep serves in place until ctx ends, and begins anew whenever the place is
// another one or serving broke.
func (r *Resolver) Keep(ctx context.Context, place Place) {
	for ctx.Err() == nil {
		if err := r.serveHere(ctx, place); err != nil && ctx.Err() == nil {
			r.log.Warn("resolver begins anew", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

var errMoved = errors.New("the network namespace was made anew")

func (r *Resolver) serveHere(ctx context.Context, place Place) error {
	here, err := place.Identity()
	if err != nil {
		return err
	}
	packets, err := place.ListenPacket(ctx)
	if err != nil {
		return err
	}
	streams, err := place.Listen(ctx)
	if err != nil {
		return errors.Join(err, packets.Close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go watch(ctx, cancel, place, here)
	return r.Serve(ctx, packets, streams)
}

func watch(ctx context.Context, cancel context.CancelCauseFunc, place Place, here string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if now, err := place.Identity(); err == nil && now != here {
				cancel(errMoved)
				return
			}
		}
	}
}
