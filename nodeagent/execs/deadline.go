package execs

import (
	"context"
	"os"
	"syscall"
	"time"

	"brig/nodeagent/clock"
)

const (
	// clockLook bounds how late a deadline can be noticed after a suspend, in which Go's
	// timers stand still.
	clockLook = 30 * time.Second
	// killRetry is the pause before a program that outlives its deadline is killed again.
	killRetry = time.Second
)

// arm the exec's deadline, if it has one.
func (x *Exec) arm() {
	if x.note.Due > 0 {
		x.look()
	}
}

// look at the clock, now and again until the deadline.
func (x *Exec) look() {
	if isClosed(x.ended) || x.m.ctx.Err() != nil {
		return
	}
	next := killRetry
	now, err := clock.Now()
	switch {
	case err != nil:
		x.m.Log.Error("enforce a deadline", "sandbox", x.sb.ID, "exec", x.id, "err", err)
	case now < x.note.Due:
		next = min(x.note.Due-now, clockLook)
	default:
		x.expire()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.timeout = time.AfterFunc(next, x.look)
}

// expire ends the program; why is on record before the deed.
func (x *Exec) expire() {
	f, err := os.OpenFile(x.folder.path(timeoutFile), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		x.m.Log.Error("record that an exec has reached its timeout", "sandbox", x.sb.ID, "exec", x.id, "err", err)
	}
	ctx, cancel := context.WithTimeout(x.m.ctx, endTimeout)
	defer cancel()
	if err := x.unlessEnded(x.m.Runtime.KillExec(ctx, string(x.sb.ID), x.inRuntime(), syscall.SIGKILL)); err != nil {
		x.m.Log.Warn("end an exec that has reached its timeout", "sandbox", x.sb.ID, "exec", x.id, "err", err)
	}
}

func (x *Exec) disarm() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.timeout != nil {
		x.timeout.Stop()
	}
}
