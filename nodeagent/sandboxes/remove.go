package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/phases"
	"brig/internal/sandbox"
	"brig/internal/secrets"
	"brig/nodeagent/record"
	"brig/nodeagent/tracing"
)

// drain is how long connections of an ended sandbox may take to deliver what is on
// its way.
const drain = time.Second

// Remove forgets an ended sandbox and deletes its output; with force it ends it first.
func (m *Manager) Remove(ctx context.Context, rec record.Record, force bool) error {
	k := m.keeper(rec.ID)
	if k != nil && !isClosed(k.ended) {
		if !force {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s is running: terminate it first, or force its removal", rec.ID))
		}
		ending, done := tracing.Start(ctx, "end")
		_, err := m.Terminate(ending, rec, 0)
		if done(err); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if k != nil {
		_, done := tracing.Start(ctx, "tear down")
		select {
		case <-k.clean:
			done(nil)
		case <-ctx.Done():
			done(context.Cause(ctx))
			return context.Cause(ctx)
		}
	}
	rec, err := m.store.Get(rec.ID)
	if errdefs.IsNotFound(err) {
		return nil // it was never made, or another Remove was faster
	}
	if err != nil {
		return err
	}
	if !rec.Clean {
		if err := m.cleanUp(ctx, rec.ID); err != nil {
			return fmt.Errorf("tear down %s: %w", rec.ID, err)
		}
	}
	_, done := tracing.Start(ctx, "forget")
	err = m.forget(rec.ID)
	done(err)
	return err
}

// cleanUp tears an ended sandbox down and records that nothing is left.
func (m *Manager) cleanUp(ctx context.Context, id sandbox.ID) error {
	if err := m.teardown(ctx, id); err != nil {
		m.mark(id)
		return err
	}
	failpoint.Hit("teardown.done")
	m.returnGPUs(id)
	m.mu.Lock()
	delete(m.unclean, id)
	m.mu.Unlock()
	_, err := m.store.Update(id, func(r *record.Record) error {
		r.Clean = true
		return nil
	})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// teardown removes everything of a sandbox but its record and its output. The
// network goes last: while anything of it runs, its policy stays.
func (m *Manager) teardown(ctx context.Context, id sandbox.ID) error {
	if k := m.keeper(id); k != nil {
		m.closeTunnels(k, drain)
	}
	failpoint.Hit("teardown.tunnels")
	if err := m.runtime.Remove(ctx, string(id)); err != nil {
		return err
	}
	failpoint.Hit("teardown.removed")
	if err := errors.Join(m.binds.Remove(string(id)), secrets.Remove(m.cfg.SecretsDir(), string(id))); err != nil {
		return err
	}
	if err := phases.Remove(m.cfg.PhasesFile(m.cfg.Containerd.Namespace, string(id))); err != nil {
		return err
	}
	return m.network.Detach(ctx, string(id))
}

// forget deletes the record, then the output: an output without a record is an orphan,
// which Reconcile removes, but a record without its output would be half a sandbox.
func (m *Manager) forget(id sandbox.ID) error {
	m.execs.Forget(id)
	if err := m.store.Delete(id); err != nil {
		return err
	}
	failpoint.Hit("forget.recorded")
	if err := os.RemoveAll(m.cfg.JournalDir(string(id))); err != nil {
		return fmt.Errorf("delete the output of %s: %w", id, err)
	}
	return nil
}

// mark has teardown tried again later.
func (m *Manager) mark(id sandbox.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unclean[id] = true
}
