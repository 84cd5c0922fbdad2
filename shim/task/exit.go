package task

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"brig/shim/bundle"
	"brig/shim/runsc"

	"golang.org/x/sys/unix"
)

// drainTime bounds how long an end is kept back for a reader that does not read.
const drainTime = 5 * time.Second

// killed is the exit code of what a SIGKILL ended.
const killed = 128 + uint32(unix.SIGKILL)

// watch waits for the sentry and tells the program's end, after those of all execs.
func (t *Task) watch() {
	state, err := t.sentry.Wait()
	at := time.Now()
	t.mu.Lock()
	t.dead = true
	starting := t.starting
	t.mu.Unlock()
	close(t.gone)
	if err != nil {
		t.shim.opts.Log.Error("the sentry's status is lost", "sandbox", t.request.ID, "err", err)
	}
	if starting != nil {
		<-starting
	}
	runsc.ReapGofer(t.runsc.Root, t.request.ID)
	oom := t.oomKilled()
	exit := Exit{Code: t.exitCode(state, oom), At: at}
	t.drain(t.init)
	t.running.Wait()
	err = t.request.Bundle.WriteExit(bundle.Exit{PID: t.sentry.Pid, Code: exit.Code, At: at, OOM: oom})
	if err != nil {
		t.shim.opts.Log.Error("the exit status is not durable", "sandbox", t.request.ID, "err", err)
	}
	t.init.stop(exit)
	if oom {
		t.shim.opts.Emit(EventOOM{ID: t.request.ID})
	}
	t.shim.opts.Emit(EventExited{ID: t.request.ID, PID: t.sentry.Pid, Exit: exit})
	close(t.init.exited)
}

// exitCode is the program's: the sentry exits with it, or with 128 and the signal.
func (t *Task) exitCode(state *os.ProcessState, oom bool) uint32 {
	t.mu.Lock()
	force := t.forceCode
	t.mu.Unlock()
	switch {
	case oom:
		return killed
	case force != 0:
		return force
	case state == nil:
		return failedStart
	}
	status := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + uint32(status.Signal())
	}
	return uint32(status.ExitStatus())
}

// oomKilled must be asked before runsc removes the cgroup.
func (t *Task) oomKilled() bool {
	if t.group == nil {
		return false
	}
	n, err := t.group.OOMKills()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.shim.opts.Log.Warn("OOM kills are not known", "sandbox", t.request.ID, "err", err)
	}
	return n > t.ooms
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
