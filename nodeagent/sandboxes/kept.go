package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/nodeagent/checkpoints"
	"brig/nodeagent/quota"
	"brig/nodeagent/record"
)

// saved is what a manager has for snapshots and checkpoints.
type saved struct {
	checkpoints *checkpoints.Store
	kept        *kept
	// snapshotting holds a token for each snapshot that is being made.
	snapshotting chan struct{}
}

func openSaved(cfg *config.Config, ledger *quota.Ledger) (saved, error) {
	store, err := checkpoints.Open(cfg.CheckpointsDir())
	return saved{
		checkpoints: store, kept: &kept{ledger: ledger, releases: map[string]func(){}},
		snapshotting: make(chan struct{}, snapshotsAtOnce),
	}, err
}

// kept counts snapshots and checkpoints as their owners'.
type kept struct {
	ledger *quota.Ledger

	mu       sync.Mutex        // guards what follows
	releases map[string]func() // by name
}

// add counts something that is there.
func (k *kept) add(name string, owner uint32) { k.keep(name, k.ledger.Hold(owner, quota.Images, 1)) }

// keep has release called when what has the name is removed.
func (k *kept) keep(name string, release func()) {
	k.mu.Lock()
	had := k.releases[name]
	k.releases[name] = release
	k.mu.Unlock()
	if had != nil {
		had()
	}
}

// drop counts it no more.
func (k *kept) drop(name string) {
	k.mu.Lock()
	release := k.releases[name]
	delete(k.releases, name)
	k.mu.Unlock()
	if release != nil {
		release()
	}
}

// take counts one that is about to be made. settle says whether it was.
func (k *kept) take(name string, owner uint32) (settle func(made *bool), err error) {
	release, err := k.ledger.Take(owner, quota.Images, 1)
	if err != nil {
		return nil, err
	}
	return func(made *bool) {
		if *made {
			k.keep(name, release)
		} else {
			release()
		}
	}, nil
}

// The names under which things are counted cannot be the same: no image's name begins
// with a slash.
func checkpointKey(owner uint32, name string) string { return fmt.Sprintf("/%d/%s", owner, name) }

// Saving tells whether a sandbox is being saved, or about to stand still, at this moment.
func (m *Manager) Saving() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.keepers {
		if len(k.saving) > 0 {
			return true
		}
	}
	return false
}

// recoverKept removes what an earlier brigd left half-made, and counts what is there.
func (m *Manager) recoverKept(ctx context.Context) error {
	errs := []error{m.checkpoints.Sweep(), m.runtime.DropUnfinished(ctx), m.clearStages()}
	list, err := m.checkpoints.List(root)
	errs = append(errs, err)
	for _, c := range list {
		m.kept.add(checkpointKey(c.Owner, c.Name), c.Owner)
	}
	images, err := m.runtime.Images(ctx)
	errs = append(errs, err)
	for _, i := range images {
		if owner, ok := record.SnapshotOwner(i.Name); ok {
			m.kept.add(i.Name, owner)
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) clearStages() error {
	if err := os.RemoveAll(m.cfg.SnapshotsDir()); err != nil {
		return fmt.Errorf("remove unfinished snapshots: %w", err)
	}
	return nil
}

// stage makes a folder of brigd's own, for one layer. A shim that was asked for it by a
// brigd that died finds it gone.
func (m *Manager) stage(id string) (dir string, err error) {
	if err := os.MkdirAll(m.cfg.SnapshotsDir(), 0o700); err != nil {
		return "", fmt.Errorf("make a folder for the layer: %w", err)
	}
	if dir, err = os.MkdirTemp(m.cfg.SnapshotsDir(), id+"-"); err != nil {
		return "", fmt.Errorf("make a folder for the layer: %w", err)
	}
	return dir, nil
}

// room is how large a layer may be: it is there three times, in the stage, in containerd's
// content and unpacked, before the first of them goes.
func room(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look how much room there is: %w", err)
	}
	return int64(st.Bavail) * st.Bsize / 3, nil
}
