package sandboxes

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"brig/internal/secrets"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
)

// mayMount refuses what only root may ask for. A mount that was to be writable is not made
// read-only instead: its owner would find out too late.
func mayMount(owner uint32, r record.Request) error {
	for _, m := range r.Mounts {
		if m.Source != "" && m.Writable && owner != root {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("bind mount %s: only root may ask for a writable one: leave writable out", m.Target))
		}
	}
	return nil
}

// mount stages the bind mounts, and returns all mounts as the runtime makes them.
func (m *Manager) mount(rec *record.Record) ([]engine.Mount, error) {
	var mounts []engine.Mount
	for n, mount := range rec.Request.Mounts {
		one := engine.Mount{Target: mount.Target, Writable: mount.Writable, SizeMiB: mount.SizeMiB}
		if mount.Source != "" {
			path, err := m.binds.Mount(string(rec.ID), n, mount.Source, mount.Writable)
			if err != nil {
				return nil, err
			}
			one.Source = path
		}
		mounts = append(mounts, one)
	}
	return mounts, nil
}

// handOver has the runtime make the sandbox. Its secrets lie where the shim finds them for
// as long as that takes.
func (m *Manager) handOver(ctx context.Context, rec *record.Record, spec engine.Sandbox, slot bool) error {
	hand := m.runtime.Create
	if slot {
		hand = m.runtime.Claim
	}
	if !spec.Secrets {
		return hand(ctx, spec)
	}
	dir, id := m.cfg.SecretsDir(), string(rec.ID)
	if err := secrets.Put(dir, id, rec.Request.Secrets); err != nil {
		return err
	}
	if err := hand(ctx, spec); err != nil {
		return err // and teardown removes them
	}
	return secrets.Remove(dir, id)
}
