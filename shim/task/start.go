package task

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	if err := t.start(ctx); err != nil {
		return 0, fmt.Errorf("start sandbox: %w", err)
	}
	return t.sandbox.pid(), nil
}

func (t *Task) start(ctx context.Context) error {
	over, err := t.beginStart()
	if err != nil {
		return err
	}
	defer over()
	b := t.sandbox
	request := gate.Request{
		Namespace: b.shim.opts.Namespace, ID: b.id(), SentryPID: b.pid(),
		Annotations: b.root.spec.Annotations, BlockNetwork: b.block, Waiting: b.slot != nil && t.isRoot(),
	}
	if b.slot != nil {
		request.Annotations = t.spec.Annotations
	}
	if t.isSole() && !request.Waiting {
		request.Intruded, request.Gone = b.intruded, b.gone
	}
	if !t.passed {
		opened := b.phases.Begin("shim: gate")
		if err := b.shim.opts.Gate.Check(ctx, b.config, request); err != nil {
			return err
		}
		opened()
	}
	if err := t.init.stdio().Feed(t.interrupt(t.init)); err != nil {
		return err
	}
	// Half a start cannot be taken back, so a caller's going away does not stop it.
	ctx, cancel := t.whileAlive(context.WithoutCancel(ctx))
	defer cancel()
	launched := b.phases.Begin("shim: runsc start")
	if err := t.launch(ctx); err != nil {
		return errors.Join(err, t.conclude(failedStart))
	}
	launched()
	if err := t.init.move(Running); err != nil {
		return err
	}
	if err := b.phases.Write(b.config.PhasesFile(b.shim.opts.Namespace, b.id())); err != nil {
		b.shim.opts.Log.Warn("tell brigd what the shim did", "sandbox", b.id(), "err", err)
	}
	t.emit(EventStarted{ID: t.request.ID, PID: b.pid()})
	return nil
}

// lastWords is how long a start may outlive its program: one that is short has ended when
// runsc says that it was started.
const lastWords = 2 * time.Second

// whileAlive keeps a runsc that hangs from holding up the end of what was killed.
func (t *Task) whileAlive(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	go func() {
		select {
		case <-t.ended:
		case <-t.sandbox.gone:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(lastWords):
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// launch starts the program. A container that joins gets its streams now.
func (t *Task) launch(ctx context.Context) error {
	switch {
	case t.request.Checkpoint == "" && t.isRoot():
		return t.sandbox.starter.Start(ctx)
	case t.request.Checkpoint != "" && t.isRoot():
		return t.goOn(ctx)
	}
	files := t.init.stdio().Files()
	var err error
	switch {
	case t.request.Checkpoint != "":
		err = t.goOn(ctx)
	case t.standby != nil:
		err = t.standby.Start(ctx)
	default:
		err = t.runsc.Start(ctx, t.id, t.request.Bundle.Dir(), &files)
	}
	if err == nil && t.named {
		err = t.sandbox.setHostname(ctx, t.spec.Hostname) // the image has what a claim had set
	}
	t.init.stdio().Started() // whoever has failed has written nothing, and readers see the end
	if err != nil {
		return err
	}
	go t.waitProgram()
	return nil
}

// beginStart keeps the end of the program from being told before its start, and a
// second start from beginning. over must be called when the start has ended.
func (t *Task) beginStart() (over func(), err error) {
	if t.isWaiting() {
		return nil, fmt.Errorf("start a sandbox that waits for its program: %w", errdefs.ErrFailedPrecondition)
	}
	if !t.sandbox.held.mayStart() {
		return nil, fmt.Errorf("start a sandbox that is held: %w", errdefs.ErrFailedPrecondition)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if state, _ := t.init.look(); state != Created || t.over || t.deleting != nil || t.freed || t.starting != nil || t.hasEnded() {
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
