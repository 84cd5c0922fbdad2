// Package transit is a node's network namespace between its sandboxes and the host.
//
// Every sandbox's link has its other end here, and the rules stand here, where no
// other software of the host has any. One veth leads on: the node's link in the host
// and up0 inside. Whoever needs the namespace first makes it: brigd, brig-cni or the
// shim. All changes are made under one file lock; what was chosen (addresses,
// settings to put back) is on record before it is done, so a process that was killed
// half-way leaves something that the next one repairs or rebuilds closed.
//
// "The host" is the network namespace of the calling process.
package transit

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"brig/internal/config"
	"brig/internal/netns"
)

// UpLink is the name, inside, of the veth that leads to the host.
const UpLink = "up0"

// Path of the node's transit namespace.
func Path(cfg *config.Config) string { return netns.Path(cfg.TransitName()) }

// With brings the node's network in order and runs fn under the lock.
func With(ctx context.Context, cfg *config.Config, fn func(context.Context, Node) error) error {
	return Locked(ctx, cfg, func(ctx context.Context) error {
		node, err := ensure(ctx, cfg)
		if err != nil {
			return fmt.Errorf("prepare the node's network: %w", err)
		}
		return fn(ctx, node)
	})
}

// Inspect runs fn under the lock with the node as it should be, and repairs nothing. A
// node that has no network is os.ErrNotExist.
func Inspect(ctx context.Context, cfg *config.Config, fn func(context.Context, Node) error) error {
	return Locked(ctx, cfg, func(ctx context.Context) error {
		c, err := loadChoice(cfg)
		if err != nil {
			return fmt.Errorf("look at the node's network: %w", err)
		}
		if !netns.Exists(cfg.TransitName()) {
			return fmt.Errorf("look at the node's network: namespace %s: %w", cfg.TransitName(), os.ErrNotExist)
		}
		node, err := describe(cfg, c)
		if err != nil {
			return err
		}
		if node.MTU, _, err = uplink(cfg); err != nil {
			return err
		}
		return fn(ctx, node)
	})
}

// Ensure brings the node's network in order.
func Ensure(ctx context.Context, cfg *config.Config) error {
	return With(ctx, cfg, func(context.Context, Node) error { return nil })
}

// Pool is where sandbox addresses come from.
func Pool(ctx context.Context, cfg *config.Config) (netip.Prefix, error) {
	var pool netip.Prefix
	err := With(ctx, cfg, func(_ context.Context, n Node) error { pool = n.Pool; return nil })
	return pool, err
}

// Locked runs fn under the node's network lock, whatever state the network is in.
func Locked(ctx context.Context, cfg *config.Config, fn func(context.Context) error) error {
	if err := os.MkdirAll(filepath.Dir(cfg.NetworkLock()), 0o711); err != nil {
		return err
	}
	return flock(ctx, cfg.NetworkLock(), os.O_CREATE|os.O_RDWR, fn)
}
