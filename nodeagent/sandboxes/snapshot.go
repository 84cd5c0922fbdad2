package sandboxes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/internal/failpoint"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
)

// snapshotsAtOnce bounds the snapshots that are being made on a node: each reads, hashes
// and unpacks what may be much.
const snapshotsAtOnce = 2

// minRoom for a layer; with less a disk is full.
const minRoom = 16 << 20

// Snapshot makes an image of a running sandbox's root filesystem, its owner's, whoever
// asks. Programs stand still while it is read. On an error nothing of it is left.
func (m *Manager) Snapshot(ctx context.Context, rec record.Record, name string) (_ engine.Image, err error) {
	full, err := record.SnapshotName(rec.Owner, name)
	if err != nil {
		return engine.Image{}, err
	}
	k, err := m.running(rec.ID)
	if err != nil {
		return engine.Image{}, err
	}
	done, err := k.alone(ctx)
	if err != nil {
		return engine.Image{}, err
	}
	defer done()
	select {
	case m.snapshotting <- struct{}{}:
		defer func() { <-m.snapshotting }()
	case <-ctx.Done():
		return engine.Image{}, context.Cause(ctx)
	}
	if err := m.free(ctx, full); err != nil {
		return engine.Image{}, err
	}
	made := false
	settle, err := m.kept.take(full, rec.Owner)
	if err != nil {
		return engine.Image{}, err
	}
	defer settle(&made)
	image, err := m.snapshot(ctx, rec, full)
	if err != nil {
		if isClosed(k.ended) || isClosed(k.exit) {
			err = fmt.Errorf("%w: %w", notRunning(k.id), err)
		}
		return engine.Image{}, err
	}
	made = true
	m.log.Info("snapshot made", "sandbox", k.id, "image", full, "size", image.Size)
	return image, nil
}

// free refuses a name that is taken, before programs stand still for it.
func (m *Manager) free(ctx context.Context, full string) error {
	_, _, err := m.runtime.Resolve(ctx, full)
	switch {
	case err == nil:
		return errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("there is an image %s: remove it first, or choose another name", full))
	case errdefs.IsNotFound(err):
		return nil
	}
	return err
}

func (m *Manager) snapshot(ctx context.Context, rec record.Record, full string) (engine.Image, error) {
	dir, err := m.stage(string(rec.ID))
	if err != nil {
		return engine.Image{}, err
	}
	defer os.RemoveAll(dir) // if it stays, brigd's next start removes it
	failpoint.Hit("snapshot.staged")
	bytes, err := room(dir)
	if err != nil {
		return engine.Image{}, err
	}
	if bytes < minRoom {
		return engine.Image{}, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("the disk of %s is full: make room for a snapshot", m.cfg.StateDir))
	}
	layer := filepath.Join(dir, "layer.tar")
	if err := m.runtime.RootLayer(ctx, string(rec.ID), layer, bytes); err != nil {
		if errdefs.IsResourceExhausted(err) {
			return engine.Image{}, errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("the files that sandbox %s has written do not fit into %d MiB, a third of the room on the node's disk (holes in files count): make room, or delete some", rec.ID, bytes>>20))
		}
		return engine.Image{}, m.diskFull(err)
	}
	failpoint.Hit("snapshot.layer")
	image, err := m.runtime.Commit(ctx, string(rec.ID), layer, full)
	return image, m.diskFull(err)
}

// diskFull gives an error its class that has lost it on its way through runsc or
// containerd.
func (m *Manager) diskFull(err error) error {
	if err != nil && strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		return errdefs.ErrResourceExhausted.WithMessage(fmt.Sprintf("the disk of %s is full: make room (%v)", m.cfg.StateDir, err))
	}
	return err
}
