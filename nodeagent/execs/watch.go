package execs

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/nodeagent/clock"
	"brig/nodeagent/record"
)

const (
	// retryWait is the pause before the runtime is asked again.
	retryWait = 200 * time.Millisecond
	// endTimeout is how long it may take to end a program and have it forgotten.
	endTimeout = 30 * time.Second
)

// watch waits for the program's end and records it. If brigd ends first, nothing is
// recorded and the program goes on.
func (x *Exec) watch() {
	defer close(x.done)
	status, at, lost := x.awaitEnd()
	<-x.settled
	if x.m.ctx.Err() != nil || x.fault != nil {
		return
	}
	exit := x.reason(status, at.UTC(), lost)
	x.disarm()
	x.rest(at)
	kept := x.note.Kept && x.record(exit)
	x.exit = exit
	close(x.ended)
	if kept {
		x.settleUp()
	}
}

// awaitEnd returns the program's status; lost if nobody knows it any more.
func (x *Exec) awaitEnd() (status int, at time.Time, lost bool) {
	for x.m.ctx.Err() == nil {
		status, at, err := x.m.Runtime.WaitExec(x.m.ctx, string(x.sb.ID), x.inRuntime())
		if err == nil {
			return status, at, false
		}
		if errdefs.IsNotFound(err) {
			return 0, time.Now(), true
		}
		x.m.Log.Debug("wait for an exec", "sandbox", x.sb.ID, "exec", x.id, "err", err)
		clock.Pause(x.m.ctx, retryWait)
	}
	return 0, time.Time{}, false
}

// record the exit. If the disk does not take it, the runtime goes on knowing it.
func (x *Exec) record(exit record.Exit) bool {
	if err := x.folder.write(endedFile, exit); err != nil {
		x.m.Log.Error("record the end of an exec", "sandbox", x.sb.ID, "exec", x.id, "err", err)
		return false
	}
	failpoint.Hit("exec.recorded")
	return true
}

// settleUp has the runtime forget an exec that is on record, and so does memory.
func (x *Exec) settleUp() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.m.ctx), endTimeout)
	defer cancel()
	err := x.m.Runtime.ForgetExec(ctx, string(x.sb.ID), x.inRuntime())
	if err == nil || errdefs.IsNotFound(err) {
		failpoint.Hit("exec.forgotten")
		err = x.folder.forgotten()
	}
	if err != nil && !isClosed(x.sb.Ended) {
		x.m.Log.Warn("forget an exec", "sandbox", x.sb.ID, "exec", x.id, "err", err)
	}
	x.closeInput()
	x.drop()
}
