package gate

import (
	"context"
	"errors"

	"brig/internal/config"
	"brig/internal/transit"
)

// wait examines a sandbox that is booted before anybody knows what it is for. It is to be
// as closed as the plugin made it: links of ours alone, with no policy. The sandbox's claim
// on its namespace holds from here on.
func wait(ctx context.Context, cfg *config.Config, r Request) (err error) {
	ns, err := openNamespace(r.SentryPID)
	if err != nil {
		return err
	}
	// Links that come while the gate looks are told of, too.
	watch, err := ns.watch(cfg, r)
	if err != nil {
		return errors.Join(err, ns.Close())
	}
	defer func() {
		if err != nil || r.Intruded == nil {
			watch.end()
			return
		}
		go watch.run(context.WithoutCancel(ctx))
	}()
	if err := errors.Join(ns.refuseReserved(cfg), ns.notNeighbours(cfg)); err != nil {
		return err
	}
	err = locked(ctx, cfg, func(_ context.Context, node *transit.Node) error {
		found, err := ns.links(node)
		if err != nil {
			return err
		}
		if len(found.ours) == 0 || len(found.foreign) > 0 {
			return refuse("a sandbox that waits needs brig's own link and no other")
		}
		if first, err := firstPolicy(node, found.ours); err != nil || first != "" {
			return errors.Join(err, refuse("a sandbox that waits must have no policy"))
		}
		return claim(cfg, r, ns.inode)
	})
	if err != nil {
		return err
	}
	return ns.raiseLoopback()
}
