package task

import (
	"context"
	"errors"
	"fmt"

	"brig/shim/checkpoint"
	"brig/shim/runsc"

	"github.com/containerd/errdefs"
)

// Checkpoint writes the sandbox to an image at path, an empty folder or none yet. The
// sandbox goes on as it was, also if that fails; exit ends it after a success, with
// the status of a SIGKILL. Execs are in the image, but end where it is restored: their
// callers are not there.
func (s *Shim) Checkpoint(ctx context.Context, id, path string, exit bool) (err error) {
	t, err := s.get(id)
	if err != nil {
		return err
	}
	over, err := t.beginCheckpoint()
	if err != nil {
		return err
	}
	defer over()
	if exit { // what it did after the image was taken would be done twice
		if err := t.surely(ctx, (*runsc.Control).Pause); err != nil {
			return fmt.Errorf("checkpoint sandbox: %w", err)
		}
	}
	if err := t.save(ctx, path); err != nil {
		if exit && !t.isOver() {
			err = errors.Join(err, t.surely(ctx, (*runsc.Control).Resume))
		}
		return fmt.Errorf("checkpoint sandbox: %w", err)
	}
	t.emit(EventCheckpointed{ID: id, Path: path})
	if !exit {
		return nil
	}
	return t.conclude(killed)
}

// beginCheckpoint admits one checkpoint at a time. over must be called after it.
func (t *Task) beginCheckpoint() (over func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sandbox.pod {
		return nil, fmt.Errorf("checkpoint one container of a pod: an image holds a whole sandbox: %w", errdefs.ErrNotImplemented)
	}
	if t.nvproxy {
		return nil, fmt.Errorf("checkpoint the sandbox: %w", errGPUMemory)
	}
	if state, _ := t.init.look(); t.over || state != Running && state != Paused {
		return nil, fmt.Errorf("checkpoint a %s sandbox: %w", state, errdefs.ErrFailedPrecondition)
	}
	if t.saving {
		return nil, fmt.Errorf("the sandbox is being checkpointed: %w", errdefs.ErrFailedPrecondition)
	}
	t.saving = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.saving = false
	}, nil
}

// save leaves a whole image at path, or nothing.
func (t *Task) save(ctx context.Context, path string) error {
	build, err := t.runsc.Version(ctx)
	if err != nil {
		return err
	}
	image, err := checkpoint.Create(path)
	if err != nil {
		return err
	}
	err = t.runsc.Checkpoint(ctx, t.id, t.request.Bundle.Dir(), image.Dir())
	if err == nil {
		err = image.Commit(checkpoint.Manifest{
			Runsc: build, Args: t.args, Slot: t.sandbox.slot != nil, Unnamed: !t.sandbox.named.Load(), DriverCapabilities: t.runsc.DriverCapabilities,
		})
	}
	if err != nil {
		err = errors.Join(err, image.Discard())
	}
	return err
}
