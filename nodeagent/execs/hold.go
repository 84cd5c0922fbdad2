package execs

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
)

// Leave ends a call's hold on an exec. With the last one an exec that is not kept ends,
// and nothing of it is left soon after. A call that ends because brigd does must not
// leave: its client comes again.
func (x *Exec) Leave() {
	x.mu.Lock()
	x.holders--
	last := x.holders == 0
	x.mu.Unlock()
	if last && isClosed(x.settled) && x.fault == nil && !x.note.Kept {
		x.m.wg.Go(x.vanish)
	}
}

// held tells whether a call holds it.
func (x *Exec) held() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.holders > 0
}

// vanish ends a program and removes every trace of it.
func (x *Exec) vanish() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.m.ctx), endTimeout)
	defer cancel()
	x.disarm()
	if err := x.forget(ctx); err != nil && !isClosed(x.sb.Ended) {
		// Its folder stays, and with it the chance that a later brigd succeeds.
		x.m.Log.Error("end an exec", "sandbox", x.sb.ID, "exec", x.id, "err", err)
		return
	}
	failpoint.Hit("exec.released")
	x.rest(time.Now())
	x.closeInput()
	x.uncount()
	x.drop()
	if x.spend() {
		return
	}
	if err := x.folder.remove(); err != nil {
		x.m.Log.Error("remove an exec", "sandbox", x.sb.ID, "exec", x.id, "err", err)
	}
}

// forget has the runtime forget the program, killed if it runs.
func (x *Exec) forget(ctx context.Context) error {
	sb, id := string(x.sb.ID), x.inRuntime()
	err := x.m.Runtime.ForgetExec(ctx, sb, id)
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if err := x.m.Runtime.KillExec(ctx, sb, id, syscall.SIGKILL); err == nil {
		_, _, _ = x.m.Runtime.WaitExec(ctx, sb, id) // what follows tells
	}
	err = x.m.Runtime.ForgetExec(ctx, sb, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// closeInput once nobody writes.
func (x *Exec) closeInput() {
	x.writing <- struct{}{}
	defer func() { <-x.writing }()
	if x.input != nil {
		_ = x.input.Close() // nothing is written to it any more
		x.input = nil
	}
}

// IsEnding tells that a call ended because brigd does, which ctx's cause or err tells.
func IsEnding(ctx context.Context, err error) bool {
	return errors.Is(err, ErrEnding) || errors.Is(context.Cause(ctx), ErrEnding)
}
