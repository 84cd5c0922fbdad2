package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// forceWait is how long a sandbox may take to die of SIGKILL before its parts are
// taken from under it.
const forceWait = 10 * time.Second

// Wait returns how the sandbox ended, once it has.
func (m *Manager) Wait(ctx context.Context, rec record.Record) (record.Exit, error) {
	if k := m.keeper(rec.ID); k != nil {
		select {
		case <-k.ended:
		case <-ctx.Done():
			return record.Exit{}, context.Cause(ctx)
		}
		if k.fault != nil {
			return record.Exit{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("sandbox %s was not made: %v", rec.ID, k.fault))
		}
	}
	rec, err := m.store.Get(rec.ID)
	if err != nil {
		return record.Exit{}, err
	}
	if rec.Exit == nil {
		return record.Exit{}, errdefs.ErrUnavailable.WithMessage("brigd is ending: ask again")
	}
	return *rec.Exit, nil
}

// Ended is closed once the end of a sandbox is on record.
func (m *Manager) Ended(id sandbox.ID) <-chan struct{} {
	if k := m.keeper(id); k != nil {
		return k.ended
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// Terminate ends a sandbox and returns how it ended: by SIGKILL at once or, with a
// grace, that long after a SIGTERM. Once begun it goes on without the caller. One that
// is still being made is undone: what it waits for, a registry say, may never come.
func (m *Manager) Terminate(ctx context.Context, rec record.Record, grace time.Duration) (record.Exit, error) {
	k := m.keeper(rec.ID)
	if k != nil {
		k.abort(errdefs.ErrAborted.WithMessage(fmt.Sprintf("sandbox %s was terminated before it was made", rec.ID)))
		select {
		case <-k.ready:
		case <-ctx.Done():
			return record.Exit{}, context.Cause(ctx)
		}
		m.terminate(k, grace)
	}
	return m.Wait(ctx, rec)
}

// terminate has one goroutine at most, however often it is called: the one that ends the
// sandbox first.
func (m *Manager) terminate(k *keeper, grace time.Duration) {
	due := time.Now().Add(grace)
	k.mu.Lock()
	defer k.mu.Unlock()
	if isClosed(k.ended) || k.ender != nil && !due.Before(k.due) {
		return
	}
	if k.ender != nil {
		k.ender()
	}
	ctx, cancel := context.WithCancel(m.ctx)
	k.ender, k.due = cancel, due
	m.wg.Go(func() {
		defer cancel()
		m.end(ctx, k, sandbox.ReasonTerminated, grace)
	})
}

// end brings a sandbox to its end for a reason, which is on record before the deed.
// It returns when the end is recorded, or with ctx.
func (m *Manager) end(ctx context.Context, k *keeper, reason sandbox.Reason, grace time.Duration) {
	_, err := m.store.Update(k.id, func(r *record.Record) error {
		if r.State != sandbox.Running || r.Ending != "" {
			return errNothingToDo
		}
		r.Ending = reason
		return nil
	})
	if err != nil && !errors.Is(err, errNothingToDo) {
		m.log.Error("record why a sandbox is ended", "sandbox", k.id, "err", err)
	}
	failpoint.Hit("end.recorded")
	if grace > 0 {
		m.wake(ctx, k)
		m.kill(ctx, k, syscall.SIGTERM)
		awaitOr(ctx, k.ended, grace)
	}
	for ctx.Err() == nil && !isClosed(k.ended) {
		m.kill(ctx, k, syscall.SIGKILL)
		failpoint.Hit("end.killed")
		if awaitOr(ctx, k.ended, forceWait); ctx.Err() != nil || isClosed(k.ended) {
			return
		}
		m.log.Warn("a sandbox survives SIGKILL; removing its parts", "sandbox", k.id)
		if err := m.runtime.Remove(ctx, string(k.id)); err != nil {
			m.log.Error("remove a sandbox by force", "sandbox", k.id, "err", err)
		}
		awaitOr(ctx, k.ended, time.Second)
	}
}

var errNothingToDo = errors.New("nothing to do")

func (m *Manager) kill(ctx context.Context, k *keeper, signal syscall.Signal) {
	ctx, cancel := context.WithTimeout(ctx, forceWait)
	defer cancel()
	err := m.runtime.Kill(ctx, string(k.id), signal)
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err) {
		m.log.Warn("signal a sandbox", "sandbox", k.id, "err", err)
	}
}

func awaitOr(ctx context.Context, done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// EndAll terminates every sandbox and returns when nothing of them is left, nor of
// those whose teardown failed before.
func (m *Manager) EndAll(ctx context.Context) error {
	m.mu.Lock()
	var all []*keeper
	for _, k := range m.keepers {
		all = append(all, k)
	}
	m.mu.Unlock()
	var group errgroup.Group
	for _, k := range all {
		group.Go(func() error {
			if _, err := m.Terminate(ctx, record.Record{ID: k.id}, 0); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("terminate %s: %w", k.id, err)
			}
			select {
			case <-k.clean:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}
	err := group.Wait()
	return errors.Join(err, m.sweep(ctx))
}
