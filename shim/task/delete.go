package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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

// removeTime bounds runsc's part in it, hooks included.
const removeTime = 10 * time.Second

// Delete frees a task that has ended or was never started. It can be tried again when it
// fails. A create under way is given up.
func (s *Shim) Delete(ctx context.Context, id string) (pid int, exit Exit, err error) {
	if err := s.abandonCreate(ctx, id); err != nil {
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
	over, err := t.beginDelete(ctx)
	if err != nil {
		return err
	}
	defer func() { over(err == nil) }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
	defer cancel()
	if err = t.end(ctx); err != nil {
		return err
	}
	if err = t.freeSlot(ctx); err != nil {
		return err
	}
	if err = t.free(ctx); err != nil {
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
	t.sandbox.shares.forget(t.id)
	return nil
}

// beginDelete waits for a delete under way: what that one has freed is not found. over
// must be called with what came of this one.
func (t *Task) beginDelete(ctx context.Context) (over func(freed bool), err error) {
	for {
		ended := make(chan struct{})
		other, err := t.claimDelete(ended)
		if err != nil {
			return nil, err
		}
		if other == nil {
			return func(freed bool) {
				t.mu.Lock()
				t.deleting, t.freed = nil, freed
				t.mu.Unlock()
				close(ended)
			}, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the delete under way: %w", context.Cause(ctx))
		}
	}
}

func (t *Task) claimDelete(ended chan struct{}) (other <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	state, _ := t.init.look()
	switch {
	case t.freed:
		return nil, fmt.Errorf("task %s: %w", t.request.ID, errdefs.ErrNotFound)
	case state == Running || state == Paused || t.starting != nil:
		return nil, fmt.Errorf("delete a %s sandbox: %w", state, errdefs.ErrFailedPrecondition)
	case t.deleting != nil:
		return t.deleting, nil
	}
	t.deleting = ended
	return nil, nil
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
	err := t.remove(ctx)
	t.drain(t.init)
	t.init.stdio().Close()
	for _, p := range t.allExecs() {
		p.abandon()
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

func (t *Task) allExecs() []*process {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.execs))
}

// remove frees what runsc made. A runsc that fails, hangs or is gone must not keep what is
// dead on the node's list for ever: its work is then done by hand.
func (t *Task) remove(ctx context.Context) error {
	if t.isSole() && !t.isRoot() {
		return nil // it went with its sandbox
	}
	err := remove(ctx, t.request.Bundle, t.record, removeTime)
	switch {
	case err == nil && t.isRoot():
		return nil
	case err == nil: // runsc knows no more of it if the sandbox was removed before
		return cgroup.Remove(t.record.Cgroup)
	}
	t.sandbox.shim.opts.Log.Warn("what runsc does not remove is removed without it", "sandbox", t.request.ID, "err", err)
	return force(t.request.Bundle, t.record)
}

func remove(ctx context.Context, b bundle.Bundle, r bundle.Record, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if r.Joined {
		return r.Runsc.DeleteContainer(ctx, r.Container, b.Dir())
	}
	return r.Runsc.Delete(ctx, r.Container, b.Dir())
}

// force does what runsc delete would, but for hooks.
func force(b bundle.Bundle, r bundle.Record) error {
	return errors.Join(runsc.KillStrays(b.Dir()), r.Runsc.Forget(r.Container, r.Joined), cgroup.Remove(r.Cgroup))
}

// sweepTime bounds runsc's part in a sweep: containerd gives the delete verb 5 s.
const sweepTime = 2 * time.Second

// Sweep frees everything of a sandbox whose create or whose shim did not come to its end:
// first whoever could still make something, then what runsc knows, and what a runsc that
// was killed did not live to write down.
func Sweep(ctx context.Context, b bundle.Bundle, r bundle.Record) error {
	err := runsc.KillStrays(b.Dir())
	if failed := remove(ctx, b, r, sweepTime); failed != nil {
		slog.WarnContext(ctx, "what runsc does not remove is removed without it", "sandbox", r.ID, "err", failed)
	}
	return errors.Join(err, force(b, r))
}

// DeleteExec forgets an exec that does not run.
func (s *Shim) DeleteExec(id, execID string) (pid int, exit Exit, err error) {
	t, p, err := s.find(id, execID)
	if err != nil {
		return 0, Exit{}, err
	}
	state, exit := p.look()
	if state == Running || state == Created && !p.abandon() {
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
