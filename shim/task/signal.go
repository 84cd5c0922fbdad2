package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/shim/runsc"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// callTime bounds a call that a healthy sentry answers at once.
	callTime = 10 * time.Second
	// mercy is how long a sandbox may take to end after its program was killed.
	mercy = 10 * time.Second
)

// Kill sends a signal to the program or an exec, or to every process, also for a
// caller that has gone: a SIGKILL that was not taken ends the sandbox.
func (s *Shim) Kill(ctx context.Context, id, execID string, sig unix.Signal, all bool) error {
	t, p, err := s.find(id, execID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	switch state, _ := p.look(); {
	case state == Stopped:
		return fmt.Errorf("the process has ended: %w", errdefs.ErrNotFound)
	case state == Created && execID != "":
		return fmt.Errorf("signal an exec that was not started: %w", errdefs.ErrFailedPrecondition)
	case state == Created:
		return t.killCreated(sig)
	case execID == "" && sig == unix.SIGKILL:
		return t.killRunning(ctx, all)
	}
	return t.signal(ctx, p, sig, all)
}

func (t *Task) signal(ctx context.Context, p *process, sig unix.Signal, all bool) error {
	to, pid := runsc.Process, p.sandboxPID()
	if all && p.execID == "" {
		to = runsc.All
	}
	err := t.sandbox.control.Signal(ctx, t.id, pid, sig, to)
	if err == nil {
		return nil // and the process may be gone by now
	}
	var remote *runsc.RemoteError
	unknownExec := errors.As(err, &remote) && p.execID != ""
	if !unknownExec {
		// A sentry that does not know its program is about to end with it; one that
		// cannot be reached has ended, though nobody may have noticed yet.
		select {
		case <-t.sandbox.gone:
		case <-t.ended:
		case <-time.After(time.Second):
		}
	}
	if t.isOver() || p.isOver() || unknownExec {
		return fmt.Errorf("the process has ended: %w", errdefs.ErrNotFound)
	}
	return err
}

// killCreated ends a sandbox that has no program yet, if the signal would.
func (t *Task) killCreated(sig unix.Signal) error {
	switch sig {
	case unix.SIGKILL, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT:
		return t.conclude(128 + uint32(sig))
	}
	return nil
}

// killRunning asks the sentry to end its program, so that the output is flushed and
// the status real, and ends the sentry if it does not. One that answers that it has no
// such program is given the time to tell its end, for the sake of others in the pod.
func (t *Task) killRunning(ctx context.Context, all bool) error {
	err := t.signal(ctx, t.init, unix.SIGKILL, all)
	if errdefs.IsNotFound(err) {
		return err
	}
	if state, _ := t.init.look(); state == Paused && err == nil {
		err = t.sandbox.control.Resume(ctx) // a frozen program does not see the signal
	}
	var remote *runsc.RemoteError
	if err != nil && (t.isRoot() || !errors.As(err, &remote)) {
		t.sandbox.shim.opts.Log.Warn("the sentry does not take a signal and is killed", "sandbox", t.request.ID, "err", err)
		return t.sandbox.kill()
	}
	time.AfterFunc(mercy, func() {
		if !t.isOver() {
			t.sandbox.shim.opts.Log.Warn("the sentry outlives its program and is killed", "sandbox", t.request.ID)
			_ = t.sandbox.kill() // an error means that it has ended
		}
	})
	if err != nil {
		return fmt.Errorf("the process has ended: %w: %w", err, errdefs.ErrNotFound)
	}
	return nil
}

// isOver tells that the program has ended, or has to.
func (t *Task) isOver() bool {
	if t.sandbox.isDead() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

func (p *process) isOver() bool {
	state, _ := p.look()
	return state == Stopped
}

// Resize sets a terminal's size and tells its foreground processes, which the
// sentry does not do by itself.
func (s *Shim) Resize(ctx context.Context, id, execID string, width, height uint16) error {
	t, p, err := s.find(id, execID)
	if err != nil {
		return err
	}
	if err := p.resize(width, height); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	if state, _ := p.look(); state != Running {
		return nil
	}
	t.foreground(ctx, p, unix.SIGWINCH)
	return nil
}

// interrupt passes on what the keys of p's terminal mean.
func (t *Task) interrupt(p *process) func(unix.Signal) {
	return func(sig unix.Signal) { t.foreground(context.Background(), p, sig) }
}

// foreground signals the processes that use p's terminal. It is like the kernel's
// own: if there are none, nothing happens.
func (t *Task) foreground(ctx context.Context, p *process, sig unix.Signal) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := t.sandbox.control.Signal(ctx, t.id, p.sandboxPID(), sig, runsc.Foreground); err != nil && !t.isOver() {
		t.sandbox.shim.opts.Log.Debug("a terminal's signal was not taken", "sandbox", t.request.ID, "exec", p.execID, "signal", sig, "err", err)
	}
}

// Pause freezes the sandbox.
func (s *Shim) Pause(ctx context.Context, id string) error {
	return s.freeze(ctx, id, Paused, (*runsc.Control).Pause, EventPaused{ID: id})
}

// Resume lets it go on.
func (s *Shim) Resume(ctx context.Context, id string) error {
	return s.freeze(ctx, id, Running, (*runsc.Control).Resume, EventResumed{ID: id})
}

func (s *Shim) freeze(ctx context.Context, id string, to State, call func(*runsc.Control, context.Context) error, told Event) error {
	t, err := s.get(id)
	if err != nil {
		return err
	}
	if t.sandbox.pod {
		return fmt.Errorf("freeze or thaw one container of a pod: its sandbox has others: %w", errdefs.ErrNotImplemented)
	}
	from := map[State]State{Paused: Running, Running: Paused}[to]
	if state, _ := t.init.look(); state != from {
		return fmt.Errorf("the sandbox is %s, not %s: %w", state, from, errdefs.ErrFailedPrecondition)
	}
	if err := t.surely(ctx, call); err != nil {
		return err
	}
	if err := t.init.move(to); err != nil {
		return err
	}
	t.emit(told)
	return nil
}

// surely calls also for a caller that has gone. The sentry counts pauses: one that it
// has taken must be known here, and one resume too many would end it.
func (t *Task) surely(ctx context.Context, call func(*runsc.Control, context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	defer cancel()
	return call(t.sandbox.control, ctx)
}
