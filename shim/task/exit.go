package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/shim/bundle"
	"brig/shim/runsc"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// drainTime bounds how long an end is kept back for a reader that does not read.
const drainTime = 5 * time.Second

// killed is the exit code of what a SIGKILL ended.
const killed = 128 + uint32(unix.SIGKILL)

// watchAll follows what Create has made.
func (t *Task) watchAll() {
	if t.isRoot() {
		go t.sandbox.watch()
		go t.sandbox.watchOOM()
	}
	go t.watch()
}

// watch waits for the program's end and tells it, after those of all execs.
func (t *Task) watch() {
	exit := t.awaitEnd()
	if starting := t.markOver(); starting != nil {
		<-starting
	}
	runsc.ReapGofer(t.runsc.Root, t.sandbox.id(), t.id)
	t.killRest()
	t.init.stdio().Started() // unless it never was: its ends are closed now
	t.drain(t.init)
	t.running.Wait()
	if t.isRoot() {
		t.sandbox.joined.Wait()
	} else {
		defer t.sandbox.joined.Done()
	}
	oom := t.sandbox.isDead() && t.sandbox.end.oom
	err := t.request.Bundle.WriteExit(bundle.Exit{PID: t.sandbox.pid(), Code: exit.Code, At: exit.At, OOM: oom})
	if err != nil {
		t.sandbox.shim.opts.Log.Error("the exit status is not durable", "sandbox", t.request.ID, "err", err)
	}
	t.init.stop(exit)
	t.emit(EventExited{ID: t.request.ID, PID: t.sandbox.pid(), Exit: exit})
	close(t.init.exited)
}

// awaitEnd of a root container is the sentry's. What has joined ends by itself, or is
// killed with the sentry.
func (t *Task) awaitEnd() Exit {
	b := t.sandbox
	if t.isRoot() {
		<-b.gone
		if t.hasEnded() && !b.end.oom {
			return Exit{Code: t.code, At: b.end.at}
		}
		return Exit{Code: b.end.exitCode(), At: b.end.at}
	}
	select {
	case <-t.ended:
		return Exit{Code: t.code, At: time.Now()}
	case <-b.gone:
		if t.hasEnded() && !b.end.oom {
			return Exit{Code: t.code, At: b.end.at}
		}
		return Exit{Code: killed, At: b.end.at}
	}
}

// Crashed tells whether a task that has ended did because the sandbox's kernel died of
// itself, or of somebody else than this shim and the memory limit.
func (s *Shim) Crashed(id string) (bool, error) {
	t, err := s.get(id)
	if err != nil {
		return false, err
	}
	if state, _ := t.init.look(); state != Stopped {
		return false, fmt.Errorf("ask of a %s task whether it crashed: %w", state, errdefs.ErrUnavailable)
	}
	return t.sandbox.isDead() && t.sandbox.end.crash, nil
}

// markOver returns the start under way, if there is one.
func (t *Task) markOver() (starting <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	return t.starting
}

// conclude sets the program's exit code, the first time it is called, and makes sure
// that it ends: with a root container the sentry has to.
func (t *Task) conclude(code uint32) error {
	t.mu.Lock()
	if !t.hasEnded() {
		t.code = code
		close(t.ended)
	}
	t.mu.Unlock()
	if t.isSole() {
		return t.sandbox.kill()
	}
	return nil
}

func (t *Task) hasEnded() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

// waitProgram asks the sentry for the end of a container that has joined.
func (t *Task) waitProgram() {
	status, err := t.askForEnd(func() (unix.WaitStatus, error) {
		return t.sandbox.control.Wait(context.Background(), t.id)
	})
	if err != nil {
		t.sandbox.shim.opts.Log.Error("the exit status of a container is lost", "sandbox", t.request.ID, "err", err)
	}
	if !t.sandbox.isDead() {
		_ = t.conclude(status) // an error means that the sentry has ended
	}
}

// killRest ends what a program that has joined leaves running: where it shares its
// process namespace, the sandbox's kernel does not.
func (t *Task) killRest() {
	if t.isRoot() || t.sandbox.isDead() {
		return
	}
	if t.isSole() {
		_ = t.sandbox.kill() // an error means that it has ended
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	err := t.sandbox.control.Signal(ctx, t.id, 0, unix.SIGKILL, runsc.All)
	var remote *runsc.RemoteError
	if err != nil && !errors.As(err, &remote) && !t.sandbox.isDead() { // remote: there is none
		t.sandbox.shim.opts.Log.Warn("what a container left running is not killed", "sandbox", t.request.ID, "err", err)
	}
}

// askForEnd asks the sentry until it answers or has ended: what runs in a sandbox that
// ends is killed with it. The error is the sentry's, which does not know the process.
func (t *Task) askForEnd(ask func() (unix.WaitStatus, error)) (code uint32, err error) {
	for {
		status, err := ask()
		var remote *runsc.RemoteError
		switch {
		case err == nil:
			return exitStatus(status), nil
		case errors.As(err, &remote):
			return failedStart, err
		}
		select {
		case <-t.sandbox.gone:
			return killed, nil
		case <-time.After(time.Second): // the connection broke and the sentry lives: ask again
		}
	}
}

func (t *Task) drain(p *process) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	p.stdio().Drain(ctx)
}

// exitStatus of a process inside the sandbox.
func exitStatus(s unix.WaitStatus) uint32 {
	if s.Signaled() {
		return 128 + uint32(s.Signal())
	}
	return uint32(s.ExitStatus())
}
