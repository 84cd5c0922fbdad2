// Package place keeps a server in a network namespace that can be made anew under its
// feet: its sockets would then be gone without any error, so whoever serves there looks
// now and then whether it is still the same one.
package place

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// lookEvery is how soon another place is noticed.
const lookEvery = 2 * time.Second

var errMoved = errors.New("the network namespace was made anew")

// Keep calls serve until ctx ends, again whenever it returned, and ends its context
// when the place is another one: identity then returns something else.
func Keep(ctx context.Context, identity func() (string, error), serve func(context.Context) error, log *slog.Logger) {
	for ctx.Err() == nil {
		if err := serveHere(ctx, identity, serve); err != nil && ctx.Err() == nil {
			log.Warn("begin anew", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

func serveHere(ctx context.Context, identity func() (string, error), serve func(context.Context) error) error {
	here, err := identity()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go watch(ctx, cancel, identity, here)
	return serve(ctx)
}

func watch(ctx context.Context, cancel context.CancelCauseFunc, identity func() (string, error), here string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if now, err := identity(); err == nil && now != here {
				cancel(errMoved)
				return
			}
		}
	}
}
