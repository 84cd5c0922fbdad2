package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/shim/bundle"
	"brig/shim/cgroup"
	"brig/shim/runsc"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// deleteTime bounds a delete; it goes on when its caller has gone.
const deleteTime = 30 * time.Second

// Delete frees a task that has ended or was never started. It can be tried again
// when it fails.
func (s *Shim) Delete(ctx context.Context, id string) (pid int, exit Exit, err error) {
	if err := s.awaitCreate(ctx); err != nil {
		return 0, Exit{}, err
	}
	t, err := s.get(id)
	if err != nil {
		return 0, Exit{}, err
	}
	if err := t.beginDelete(); err != nil {
		return 0, Exit{}, err
	}
	defer func() {
		t.mu.Lock()
		t.deleting = false
		t.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
	defer cancel()
	if err := t.end(ctx); err != nil {
		return 0, Exit{}, err
	}
	if err := t.free(ctx); err != nil {
		return 0, Exit{}, fmt.Errorf("delete sandbox: %w", err)
	}
	if err := s.opts.Gate.Release(ctx, t.request.Config, s.opts.Namespace, id); err != nil {
		s.opts.Log.Warn("the gate still has the sandbox on its list", "sandbox", id, "err", err)
	}
	_, exit = t.init.look()
	s.opts.Emit(EventDeleted{ID: id, PID: t.sentry.Pid, Exit: exit})
	s.mu.Lock()
	s.task = nil
	s.mu.Unlock()
	return t.sentry.Pid, exit, nil
}

// awaitCreate waits for a create under way: containerd, whose own caller went away in
// the middle of it, deletes and shuts down at once, and would leave what comes after.
func (s *Shim) awaitCreate(ctx context.Context) error {
	s.mu.Lock()
	creating := s.creating
	s.mu.Unlock()
	if creating == nil {
		return nil
	}
	select {
	case <-creating:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the create under way: %w", context.Cause(ctx))
	}
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
	err := t.runsc.Delete(ctx, t.request.ID, t.request.Bundle.Dir())
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
		err = errors.Join(err, Unmount(t.request.Bundle))
	}
	return err
}

// Sweep frees everything of a sandbox whose create or whose shim did not come to its
// end: what runsc knows, and what a runsc that was killed did not live to write down.
func Sweep(ctx context.Context, b bundle.Bundle, r bundle.Record) error {
	err := r.Runsc.Delete(ctx, r.ID, string(b))
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
	return t.sentry.Pid, exit, nil
}
