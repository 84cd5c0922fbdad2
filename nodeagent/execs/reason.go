package execs

import (
	"syscall"
	"time"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// killed is the status of a program that SIGKILL ended, and of one whose sandbox did.
const killed = 128 + int(syscall.SIGKILL)

// fateWait is how long the end of a sandbox may take to be on record after those of its
// programs are known.
const fateWait = 10 * time.Second

// reason makes an exit of a status. A program that its sandbox took along has the reason
// of the sandbox: oom, timeout, terminated and so on. Where the sandbox's program ended by
// itself, what ended the exec is that, so it was terminated.
func (x *Exec) reason(status int, at time.Time, lost bool) record.Exit {
	if x.folder.timedOut() {
		return record.Resolve(status, at, sandbox.ReasonExecTimeout, false)
	}
	if status != killed && !lost {
		return record.StatusExit(status, at)
	}
	if !lost && x.wasKilled() {
		return record.StatusExit(status, at)
	}
	if exit, ok := x.bySandbox(at); ok {
		return exit
	}
	if lost {
		return record.ReasonExit(sandbox.ReasonLost, at)
	}
	return record.StatusExit(status, at)
}

func (x *Exec) wasKilled() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.killed
}

// bySandbox tells whether the sandbox has ended, or is being ended, and so the program.
// It waits for that to be known, if the sandbox's own program is not there any more.
func (x *Exec) bySandbox(at time.Time) (record.Exit, bool) {
	if exit, known := x.fate(at); known {
		return exit, true
	}
	if x.m.Runtime.Kill(x.m.ctx, string(x.sb.ID), 0) == nil {
		return record.Exit{}, false
	}
	timer := time.NewTimer(fateWait)
	defer timer.Stop()
	select {
	case <-x.sb.Ended:
	case <-timer.C:
	case <-x.m.ctx.Done():
	}
	return x.fate(at)
}

func (x *Exec) fate(at time.Time) (record.Exit, bool) {
	ending, exit := x.sb.Fate()
	if exit != nil {
		ending, at = exit.Reason, exit.At
	}
	switch ending {
	case "":
		return record.Exit{}, false
	case sandbox.ReasonExited, sandbox.ReasonSignal:
		ending = sandbox.ReasonTerminated
	}
	return record.ReasonExit(ending, at), true
}
