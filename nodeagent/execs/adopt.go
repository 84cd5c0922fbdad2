package execs

import (
	"errors"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/execution"
	"brig/nodeagent/clock"
	"brig/nodeagent/quota"
)

const (
	// orphanWait is how long an exec that is not kept waits for its client after a
	// restart of brigd.
	orphanWait = 15 * time.Second
	// startLook is how often a start is looked at that an earlier brigd did not see
	// through.
	startLook = 20 * time.Millisecond
)

// Adopt takes over what an earlier brigd left of a sandbox that runs. It comes before any
// other call for it.
func (m *Manager) Adopt(sb Sandbox) {
	if err := os.RemoveAll(m.spentDir(sb.ID)); err != nil {
		m.Log.Error("remove the folders of former execs", "sandbox", sb.ID, "err", err)
	}
	for _, id := range m.recorded(sb.ID) {
		x := m.newExec(sb, id)
		x.place()
		err := x.folder.read(noteFile, &x.note)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			m.Log.Warn("an exec has no readable note", "sandbox", sb.ID, "exec", id, "err", err)
		}
		if err != nil { // brigd died before it began to start it
			if err := x.folder.remove(); err != nil {
				m.Log.Error("remove an exec", "sandbox", sb.ID, "exec", id, "err", err)
			}
			continue
		}
		m.adopt(x)
	}
}

func (m *Manager) adopt(x *Exec) {
	exit, known, lingers := x.folder.exit()
	if known && !lingers {
		return
	}
	b := m.box(x.sb.ID)
	m.mu.Lock()
	b.live[x.id], x.counted = x, true
	m.mu.Unlock()
	if known {
		x.exit = exit
		close(x.settled)
		close(x.ended)
		m.wg.Go(func() { x.settleUp(); close(x.done) })
		return
	}
	x.wake(m.Quota.Hold(x.sb.Owner, quota.Execs, 1))
	m.wg.Go(x.resume)
}

// resume finds out whether the program was started, and watches it if so.
func (x *Exec) resume() {
	for x.m.ctx.Err() == nil {
		certain := x.m.lateEnough()
		added, err := x.m.Runtime.ExecAdded(x.m.ctx, string(x.sb.ID), x.inRuntime())
		switch {
		case errdefs.IsNotFound(err) && !x.gone() && !certain:
			clock.Pause(x.m.ctx, startLook) // the earlier brigd's call may be on its way
		case errdefs.IsNotFound(err) && !x.gone(), err == nil && added && x.unstarted():
			x.neverRan()
			return
		case err == nil && !added, errdefs.IsNotFound(err), isClosed(x.sb.Ended):
			x.takeOver()
			return
		case err != nil:
			x.m.Log.Debug("look for an exec", "sandbox", x.sb.ID, "exec", x.id, "err", err)
			clock.Pause(x.m.ctx, retryWait)
		default:
			clock.Pause(x.m.ctx, startLook)
		}
	}
}

// lateEnough tells that no call of an earlier brigd has an effect any more.
func (m *Manager) lateEnough() bool {
	now, err := clock.Now()
	return err == nil && now > m.began+execution.Window
}

// gone tells that the sandbox's program has ended: what it took along is not known any
// more, though it was started.
func (x *Exec) gone() bool {
	_, known := x.bySandbox(time.Now().UTC())
	return known
}

// unstarted forgets a program whose start has not begun.
func (x *Exec) unstarted() bool {
	return x.m.Runtime.ForgetExec(x.m.ctx, string(x.sb.ID), x.inRuntime()) == nil
}

// neverRan undoes a start that nobody was told of.
func (x *Exec) neverRan() {
	x.rest(time.Now())
	x.uncount()
	if err := x.folder.remove(); err != nil {
		x.m.Log.Error("remove an exec", "sandbox", x.sb.ID, "exec", x.id, "err", err)
	}
	x.refuse(errNeverRan)
}

// errNeverRan is what those are told who wait for such an exec.
var errNeverRan = errdefs.ErrNotFound.WithMessage("the exec never ran")

func (x *Exec) takeOver() {
	x.runs()
	close(x.settled)
	if x.note.Boot == x.m.Boot {
		x.arm()
	}
	x.m.wg.Go(x.watch)
	if x.note.Kept {
		return
	}
	clock.Pause(x.m.ctx, orphanWait)
	if x.m.ctx.Err() == nil && !x.held() {
		x.vanish()
	}
}
