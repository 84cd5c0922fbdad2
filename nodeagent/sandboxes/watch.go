package sandboxes

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/nodeagent/clock"
	"brig/nodeagent/engine"
	"brig/nodeagent/events"
	"brig/nodeagent/record"
)

const (
	// retryWait is the pause before containerd is asked again.
	retryWait = 200 * time.Millisecond
	// clockLook bounds how late a deadline can be noticed after a suspend, in which
	// Go's timers stand still.
	clockLook = 30 * time.Second
)

// keep watches a running sandbox and records its end. If brigd ends first, nothing
// is recorded and the sandbox goes on.
func (m *Manager) keep(k *keeper, rec record.Record) {
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	m.wg.Go(func() { m.enforce(ctx, k, rec.Deadline) })
	if d := rec.Request.IdleTimeout; d > 0 {
		m.wg.Go(func() { m.enforceIdle(ctx, k, d) })
	}
	status, at, lost := m.awaitEnd(ctx, k)
	if m.ctx.Err() != nil {
		m.closeTunnels(k, 0)
		return
	}
	oom := status == 128+9 && !lost && m.oomKilled(k)
	crashed := lost || status > 128 && !oom && m.crashed(k)
	m.finish(k, func(r *record.Record) record.Exit {
		if crashed && r.Ending == "" {
			return record.ReasonExit(sandbox.ReasonRuntimeCrash, at)
		}
		return record.Resolve(status, at, r.Ending, oom)
	})
}

// awaitEnd returns the program's status; lost if nobody knows it any more.
func (m *Manager) awaitEnd(ctx context.Context, k *keeper) (status int, at time.Time, lost bool) {
	for ctx.Err() == nil {
		status, at, err := m.runtime.Wait(ctx, string(k.id))
		if err == nil {
			return status, at.UTC(), false
		}
		if errdefs.IsNotFound(err) {
			return 128 + 9, time.Now().UTC(), true
		}
		m.log.Debug("wait for a sandbox", "sandbox", k.id, "err", err)
		clock.Pause(ctx, retryWait)
	}
	return 0, time.Time{}, false
}

// enforce ends the sandbox at its deadline.
func (m *Manager) enforce(ctx context.Context, k *keeper, d record.Deadline) {
	for ctx.Err() == nil {
		now, err := clock.Now()
		if err != nil {
			m.log.Error("enforce a deadline", "sandbox", k.id, "err", err)
		}
		if err == nil && now >= d.At {
			m.log.Info("sandbox has reached its timeout", "sandbox", k.id)
			m.end(ctx, k, sandbox.ReasonTimeout, 0)
			return
		}
		clock.Pause(ctx, min(d.At-now, clockLook))
	}
}

// finish records the end, then tears down.
func (m *Manager) finish(k *keeper, exit func(*record.Record) record.Exit) {
	failpoint.Hit("exit.noticed")
	m.sample(k) // the last time that its cgroup is there
	for {
		rec, err := m.recordEnd(k, exit)
		if err == nil {
			m.metrics.Ended(string(rec.Exit.Reason))
			m.log.Info("sandbox has ended", "sandbox", k.id, "code", rec.Exit.Code, "reason", rec.Exit.Reason)
			m.publish(k, events.Event{At: rec.Exit.At, Exited: rec.Exit})
			break
		}
		// Nobody may learn of an end that is not on disk.
		m.log.Error("record a sandbox's end", "sandbox", k.id, "err", err)
		if clock.Pause(m.ctx, time.Second); m.ctx.Err() != nil {
			return
		}
	}
	failpoint.Hit("exit.recorded")
	close(k.ended)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), undoTimeout)
	defer cancel()
	if err := m.cleanUp(ctx, k.id); err != nil {
		m.log.Error("tear down a sandbox", "sandbox", k.id, "err", err)
	}
	m.dropKeeper(k)
	close(k.clean)
}

func (m *Manager) recordEnd(k *keeper, exit func(*record.Record) record.Exit) (record.Record, error) {
	now, err := clock.Now()
	if err != nil {
		return record.Record{}, err
	}
	return m.store.Update(k.id, func(r *record.Record) error {
		r.Usage = k.meter.Total()
		r.Ended = record.Instant{Boot: m.boot, At: now}
		return r.End(exit(r))
	})
}

// Watch passes the runtime's events on to keepers until the manager's context ends.
func (m *Manager) Watch(events func(context.Context, func(engine.Event)) error) {
	m.wg.Go(func() {
		for m.ctx.Err() == nil {
			if err := events(m.ctx, m.observe); m.ctx.Err() == nil {
				m.log.Debug("events broke off", "err", err)
				clock.Pause(m.ctx, retryWait)
			}
		}
	})
}

func (m *Manager) observe(e engine.Event) {
	k := m.keeper(sandbox.ID(e.Sandbox))
	switch {
	case k == nil && m.pool != nil:
		m.pool.Died(e.Sandbox)
	case k == nil:
	case e.OOM:
		m.publish(k, events.Event{OOM: true})
		m.wg.Go(func() { m.survived(k) })
	default:
		k.exitOnce.Do(func() { close(k.exit) })
	}
}
