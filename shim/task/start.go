package task

import (
	"context"
	"fmt"

	"brig/shim/gate"

	"github.com/containerd/errdefs"
)

// failedStart is the exit code of what never ran.
const failedStart = 255

// Start starts the program. If the gate refuses, the task can be started again; if
// runsc fails, it has ended.
func (s *Shim) Start(ctx context.Context, id string) (pid int, err error) {
	t, err := s.get(id)
	if err != nil {
		return 0, err
	}
	over, err := t.beginStart()
	if err != nil {
		return 0, err
	}
	defer over()
	request := gate.Request{
		Namespace: s.opts.Namespace, ID: id, SentryPID: t.sentry.Pid,
		Annotations: t.spec.Annotations, BlockNetwork: t.block,
	}
	if err := s.opts.Gate.Check(ctx, t.request.Config, request); err != nil {
		return 0, fmt.Errorf("start sandbox: %w", err)
	}
	if err := t.init.stdio().Feed(t.interrupt(t.init)); err != nil {
		return 0, fmt.Errorf("start sandbox: %w", err)
	}
	// Half a start cannot be taken back, so a caller's going away does not stop it.
	if err := t.runsc.Start(context.WithoutCancel(ctx), id, t.request.Bundle.Dir()); err != nil {
		t.force(failedStart)
		_ = t.sentry.Kill() // an error means that it has ended
		return 0, fmt.Errorf("start sandbox: %w", err)
	}
	if err := t.init.move(Running); err != nil {
		return 0, err
	}
	s.opts.Emit(EventStarted{ID: id, PID: t.sentry.Pid})
	return t.sentry.Pid, nil
}

// beginStart keeps the end of the program from being told before its start, and a
// second start from beginning. over must be called when the start has ended.
func (t *Task) beginStart() (over func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state, _ := t.init.look(); state != Created || t.dead || t.deleting || t.starting != nil {
		if state == Created {
			state = Stopped // or about to be
		}
		return nil, fmt.Errorf("start a %s sandbox: %w", state, errdefs.ErrFailedPrecondition)
	}
	starting := make(chan struct{})
	t.starting = starting
	return func() {
		t.mu.Lock()
		t.starting = nil
		t.mu.Unlock()
		close(starting)
	}, nil
}

// force sets the exit code before the sentry is killed for a reason of the shim's.
func (t *Task) force(code uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.forceCode == 0 {
		t.forceCode = code
	}
}
