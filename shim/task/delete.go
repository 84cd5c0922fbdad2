package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/shim/bundle"
	"brig/shim/cgroup"
	"brig/shim/rootfs"
	"brig/shim/runsc"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// deleteTime bounds a delete; it goes on when its caller has gone.
const deleteTime = 30 * time.Second

// Delete frees a task that has ended or was never started. It can be tried again
// when it fails.
func (s *Shim) Delete(ctx context.Context, id string) (pid int, exit Exit, err error) {
	if err := s.awaitCreate(ctx, id); err != nil {
		return 0, Exit{}, err
	}
	t, err := s.get(id)
	if err != nil {
		return 0, Exit{}, err
	}
	if err := t.delete(ctx); err != nil {
		return 0, Exit{}, err
	}
	_, exit = t.init.look()
	return t.sandbox.pid(), exit, nil
}

func (t *Task) delete(ctx context.Context) error {
	if err := t.beginDelete(); err != nil {
		return err
	}
	defer func() {
		t.mu.Lock()
		t.deleting = false
		t.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
	defer cancel()
	if err := t.end(ctx); err != nil {
		return err
	}
	if err := t.free(ctx); err != nil {
		return fmt.Errorf("delete sandbox: %w", err)
	}
	s := t.sandbox.shim
	if t.isRoot() {
		if err := s.opts.Gate.Release(ctx, t.sandbox.config, s.opts.Namespace, t.sandbox.id()); err != nil {
			s.opts.Log.Warn("the gate still has the sandbox on its list", "sandbox", t.sandbox.id(), "err", err)
		}
	}
	_, exit := t.init.look()
	t.emit(EventDeleted{ID: t.request.ID, PID: t.sandbox.pid(), Exit: exit})
	s.forget(t)
	return nil
}

func (t *Task) beginDelete() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, _ := t.init.look()
	if state == Running || state == Paused || t.starting != nil {
		return fmt.Errorf("delete a %s sandbox: %w", state, errdefs.ErrFailedPrecondition)
	}
	if t.deleting {
		return fmt.Errorf("the sandbox is being deleted: %w", errdefs.ErrFailedPrecondition)
	}
	t.deleting = true
	return nil
}

// end kills a sandbox that was never started, and waits until the end is told.
func (t *Task) end(ctx context.Context) error {
	if state, _ := t.init.look(); state == Created {
		if err := t.killCreated(unix.SIGKILL); err != nil {
			return err
		}
	}
	select {
	case <-t.init.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the sandbox's end: %w", context.Cause(ctx))
	}
}

// free goes on past errors.
func (t *Task) free(ctx context.Context) error {
	remove := t.runsc.DeleteContainer
	if t.isRoot() {
		remove = t.runsc.Delete
	}
	err := remove(ctx, t.id, t.request.Bundle.Dir())
	t.drain(t.init)
	t.init.stdio().Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.execs {
		if io := p.stdio(); io != nil {
			io.Close()
		}
	}
	if len(t.request.Rootfs) > 0 {
		err = errors.Join(err, rootfs.Unmount(t.request.Bundle.Rootfs()))
	}
	if err == nil {
		err = t.request.Bundle.RemoveRecord()
	}
	return err
}

// Sweep frees everything of a sandbox whose create or whose shim did not come to its
// end: what runsc knows, and what a runsc that was killed did not live to write down.
func Sweep(ctx context.Context, b bundle.Bundle, r bundle.Record) error {
	remove := r.Runsc.Delete
	if r.Joined {
		remove = r.Runsc.DeleteContainer
	}
	err := remove(ctx, r.Container, string(b))
	return errors.Join(err, runsc.KillStrays(b.Dir()), cgroup.Remove(r.Cgroup))
}

// DeleteExec forgets an exec that does not run.
func (s *Shim) DeleteExec(id, execID string) (pid int, exit Exit, err error) {
	t, p, err := s.find(id, execID)
	if err != nil {
		return 0, Exit{}, err
	}
	state, exit := p.look()
	if state == Running {
		return 0, Exit{}, fmt.Errorf("delete exec %s, which runs: %w", execID, errdefs.ErrFailedPrecondition)
	}
	if io := p.stdio(); io != nil {
		<-p.exited
		io.Detach()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.execs, execID)
	return t.sandbox.pid(), exit, nil
}
