package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/internal/undo"
	"brig/internal/version"
	"brig/nodeagent/checkpoints"
	"brig/nodeagent/record"
)

// Checkpoint keeps a running sandbox whole, for its owner, whoever asks. It goes on as it
// was; with exit it stands still from then on and ends once the checkpoint is on disk. On
// an error nothing of the checkpoint is left, and the sandbox goes on.
func (m *Manager) Checkpoint(ctx context.Context, rec record.Record, name string, exit bool) (_ checkpoints.Manifest, err error) {
	if err := checkpoints.CheckGPUs(string(rec.ID), len(rec.GPUs)); err != nil {
		return checkpoints.Manifest{}, err
	}
	k, err := m.running(rec.ID)
	if err != nil {
		return checkpoints.Manifest{}, err
	}
	done, err := k.alone(ctx)
	if err != nil {
		return checkpoints.Manifest{}, err
	}
	manifest, err := m.checkpoint(ctx, rec, name, exit)
	done()
	if err != nil {
		if isClosed(k.ended) || isClosed(k.exit) {
			err = fmt.Errorf("%w: %w", notRunning(k.id), err)
		}
		return checkpoints.Manifest{}, err
	}
	m.log.Info("checkpoint made", "sandbox", k.id, "checkpoint", name, "size", manifest.Size())
	if exit {
		// It is kept; whether the caller waits for the end changes nothing.
		m.wg.Go(func() { m.end(m.ctx, k, sandbox.ReasonTerminated, 0) })
		awaitOr(ctx, k.ended, 2*forceWait)
	}
	return manifest, nil
}

func (m *Manager) checkpoint(ctx context.Context, rec record.Record, name string, exit bool) (_ checkpoints.Manifest, err error) {
	id := string(rec.ID)
	stage, err := m.checkpoints.Begin(rec.Owner, name)
	if err != nil {
		return checkpoints.Manifest{}, err
	}
	var steps undo.Stack
	defer steps.Undo(ctx, &err)
	steps.Push("remove the unfinished checkpoint", func(context.Context) error { return stage.Discard() })
	failpoint.Hit("checkpoint.staged")
	made := false
	settle, err := m.kept.take(checkpointKey(rec.Owner, name), rec.Owner)
	if err != nil {
		return checkpoints.Manifest{}, err
	}
	defer settle(&made)
	manifest, err := m.describe(ctx, rec, name)
	if err != nil {
		return checkpoints.Manifest{}, err
	}
	if exit { // what it did after the image was taken would be done twice
		switch err := m.runtime.Pause(ctx, id); {
		case err == nil:
			steps.Push("resume the sandbox", func(ctx context.Context) error { return ignoreEnded(m.runtime.Resume(ctx, id)) })
		case !errdefs.IsFailedPrecondition(err):
			return checkpoints.Manifest{}, err
		}
		failpoint.Hit("checkpoint.paused")
	}
	if err := m.runtime.Checkpoint(ctx, id, stage.Image()); err != nil {
		return checkpoints.Manifest{}, m.diskFull(err)
	}
	failpoint.Hit("checkpoint.image")
	if manifest.Host.Runsc, err = stage.Runsc(); err != nil {
		return checkpoints.Manifest{}, err
	}
	if manifest, err = stage.Commit(manifest); err != nil {
		return checkpoints.Manifest{}, m.diskFull(err)
	}
	failpoint.Hit("checkpoint.kept")
	made = true
	steps.Release()
	return manifest, nil
}

// describe is the manifest of a checkpoint that is about to be made.
func (m *Manager) describe(ctx context.Context, rec record.Record, name string) (checkpoints.Manifest, error) {
	host, err := checkpoints.ThisHost(ctx, m.cfg.Runsc.Path)
	if err != nil {
		return checkpoints.Manifest{}, err
	}
	image, digest, err := m.runtime.Origin(ctx, string(rec.ID))
	if err != nil {
		return checkpoints.Manifest{}, err
	}
	return checkpoints.Manifest{
		Name: name, Owner: rec.Owner, Sandbox: rec.ID, CreatedAt: time.Now().UTC(), Brig: version.Version,
		Host: host, Image: image, ImageDigest: digest,
		Program: checkpoints.Program{
			Argv: rec.Request.Argv, Env: rec.Request.Env, Workdir: rec.Request.Workdir, Mounts: rec.Request.Mounts,
			Stdin: rec.Request.Stdin, TTY: rec.Request.TTY, PIDs: rec.Request.Resources.PIDs, DiskMiB: rec.Request.Resources.DiskMiB,
		},
	}, nil
}

// Checkpoints lists those that uid may see, by name. Damaged ones are left out and logged.
func (m *Manager) Checkpoints(uid uint32) ([]checkpoints.Manifest, error) {
	list, err := m.checkpoints.List(uid)
	if err != nil {
		m.log.Error("list checkpoints", "err", err)
	}
	if len(list) > 0 {
		err = nil
	}
	return list, err
}

// RemoveCheckpoint deletes a checkpoint. Sandboxes made from it go on.
func (m *Manager) RemoveCheckpoint(uid uint32, name string) error {
	owner, err := m.checkpoints.OwnerOf(uid, name)
	if err != nil {
		return err
	}
	// Before, because one that is being made holds it; and after, because somebody may have
	// asked for one meanwhile.
	if err := m.dropHeld(owner, name); err != nil {
		return err
	}
	if err := m.checkpoints.Remove(owner, name); err != nil {
		return err
	}
	if err := m.dropHeld(owner, name); err != nil {
		return err
	}
	m.kept.drop(checkpointKey(owner, name))
	m.log.Info("checkpoint removed", "owner", owner, "checkpoint", name)
	return nil
}

// ignoreEnded drops the errors of a sandbox that is gone, or goes on already.
func ignoreEnded(err error) error {
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
