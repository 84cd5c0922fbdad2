package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/nodeagent/clock"
	"brig/nodeagent/events"
	"brig/nodeagent/record"
)

// stillTimeout bounds a pause or a resume, which nobody stops once it has begun.
const stillTimeout = 30 * time.Second

// Pause stops every program of a running sandbox until Resume. Its timeouts go on, and
// SIGKILL ends it as it ends others. A paused one is left as it is.
func (m *Manager) Pause(ctx context.Context, rec record.Record) error {
	return m.still(ctx, rec, true)
}

// Resume lets a paused sandbox go on. One that is not paused is left as it is.
func (m *Manager) Resume(ctx context.Context, rec record.Record) error {
	return m.still(ctx, rec, false)
}

// still puts on record whether a sandbox is to stand still, and then sees to it. After a
// crash in between the record is what counts.
func (m *Manager) still(ctx context.Context, rec record.Record, paused bool) error {
	k, err := m.running(rec.ID)
	if err != nil {
		return err
	}
	done, err := k.alone(ctx)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stillTimeout)
	defer cancel()
	if err := m.recordPaused(k, paused); errors.Is(err, errNothingToDo) {
		return nil
	} else if err != nil {
		return err
	}
	failpoint.Hit("still.recorded")
	if err := m.align(ctx, k, paused); err != nil {
		if isClosed(k.ended) || isClosed(k.exit) {
			return notRunning(k.id)
		}
		return errors.Join(err, m.recordPaused(k, !paused))
	}
	failpoint.Hit("still.done")
	m.log.Info("sandbox was paused or resumed", "sandbox", k.id, "paused", paused)
	if paused {
		m.publish(k, events.Event{Paused: true})
	} else {
		m.publish(k, events.Event{Resumed: true})
	}
	return nil
}

func (m *Manager) recordPaused(k *keeper, paused bool) error {
	_, err := m.store.Update(k.id, func(r *record.Record) error {
		switch {
		case r.State != sandbox.Running:
			return notRunning(r.ID)
		case r.Paused == paused:
			return errNothingToDo
		}
		r.Paused = paused
		return nil
	})
	return err
}

// align makes the runtime do what the record says.
func (m *Manager) align(ctx context.Context, k *keeper, paused bool) error {
	is, err := m.runtime.Paused(ctx, string(k.id))
	if err != nil || is == paused {
		return err
	}
	if paused {
		return m.runtime.Pause(ctx, string(k.id))
	}
	return m.runtime.Resume(ctx, string(k.id))
}

// realign does so for a sandbox of an earlier brigd, which may have died between the
// record and the deed, or while it saved the sandbox.
func (m *Manager) realign(k *keeper) {
	done, err := k.alone(m.ctx)
	if err != nil {
		return
	}
	defer done()
	for m.ctx.Err() == nil && !isClosed(k.ended) {
		rec, err := m.store.Get(k.id)
		if err == nil {
			ctx, cancel := context.WithTimeout(m.ctx, stillTimeout)
			err = m.align(ctx, k, rec.Paused)
			cancel()
		}
		if err == nil || errdefs.IsNotFound(err) {
			return
		}
		m.log.Warn("see whether a sandbox stands still as it should", "sandbox", k.id, "err", err)
		clock.Pause(m.ctx, retryWait)
	}
}

// wake lets a paused sandbox see the signal that is to end it.
func (m *Manager) wake(ctx context.Context, k *keeper) {
	ctx, cancel := context.WithTimeout(ctx, stillTimeout)
	defer cancel()
	if paused, err := m.runtime.Paused(ctx, string(k.id)); err != nil || !paused {
		return // SIGKILL comes in any case
	}
	if err := m.runtime.Resume(ctx, string(k.id)); err != nil && !errdefs.IsFailedPrecondition(err) {
		m.log.Warn("resume a sandbox for its end", "sandbox", k.id, "err", err)
	}
}

// alone waits until nothing else stops or saves the sandbox. done must be called.
func (k *keeper) alone(ctx context.Context) (done func(), err error) {
	select {
	case k.saving <- struct{}{}:
		return func() { <-k.saving }, nil
	case <-k.ended:
		return nil, notRunning(k.id)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait until nothing else saves the sandbox: %w", context.Cause(ctx))
	}
}
