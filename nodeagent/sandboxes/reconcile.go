package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/nodeagent/clock"
)

// lookEvery is how often the node is looked through for what no record speaks of.
const lookEvery = time.Minute

// Reconcile brings the node in line with the records until the manager's context ends:
// what was half made is undone, what has ended is torn down, and what has the name of a
// sandbox of this node and no record is removed. It looks at what there is, not at what
// happened, so it may be cut off anywhere and does the rest the next time. Recover comes
// before it.
func (m *Manager) Reconcile(every time.Duration) {
	m.wg.Go(func() {
		begun := time.Now()
		m.report("undo what was half made", m.undoHalfMade())
		m.reconcile()
		if m.ctx.Err() == nil {
			m.log.Info("reconciled", "took", time.Since(begun).Round(time.Millisecond))
			close(m.settled)
		}
		looked := time.Now()
		for m.ctx.Err() == nil {
			if clock.Pause(m.ctx, every); m.ctx.Err() != nil {
				return
			}
			if time.Since(looked) < lookEvery {
				m.report("tear down what is left", m.sweep(m.ctx))
				continue
			}
			m.reconcile()
			looked = time.Now()
		}
	})
}

// Settled is closed when the node was brought in line once.
func (m *Manager) Settled() <-chan struct{} { return m.settled }

func (m *Manager) reconcile() {
	ctx, cancel := context.WithTimeout(m.ctx, reconcileTimeout)
	defer cancel()
	m.report("tear down what is left", m.sweep(ctx))
	failpoint.Hit("reconcile.swept")
	m.report("remove what no record speaks of", m.removeOrphans(ctx))
	failpoint.Hit("reconcile.orphans")
	m.report("remove attachments that no record speaks of", m.network.Collect(ctx, m.attached))
	failpoint.Hit("reconcile.collected")
	m.report("copy records", m.store.Recopy())
	m.report("forget what has ended long ago", m.expire())
	failpoint.Hit("reconcile.expired")
}

// reconcileTimeout bounds one look through the node.
const reconcileTimeout = 2 * time.Minute

func (m *Manager) report(op string, err error) {
	if err != nil && m.ctx.Err() == nil {
		m.log.Warn("reconcile", "op", op, "err", err)
	}
}

// removeOrphans removes what has the name of a sandbox of this node and no record:
// there is little of it unless the store was lost.
func (m *Manager) removeOrphans(ctx context.Context) error {
	names, err := m.present(ctx)
	errs := []error{err}
	for name := range names {
		id, err := sandbox.ParseID(name)
		if err != nil {
			continue
		}
		// Whatever is there has a record, unless it is an orphan: the record is made
		// first and goes last. So the question comes after the look.
		if has, err := m.hasRecord(id); has || err != nil {
			errs = append(errs, err)
			continue
		}
		m.log.Warn("removing what no record speaks of", "sandbox", id)
		failed := m.teardown(ctx, id)
		if failed == nil {
			failed = os.RemoveAll(m.cfg.JournalDir(name))
		}
		errs = append(errs, failed)
	}
	return errors.Join(errs...)
}

// present are the names of what there is, other people's too.
func (m *Manager) present(ctx context.Context) (map[string]bool, error) {
	names, err := m.runtime.Names(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for orphans: %w", err)
	}
	attached, errAttached := m.network.Attached()
	for _, id := range attached {
		names[id] = true
	}
	errFolders := m.presentIn(names, filepath.Dir(m.cfg.JournalDir("any")), m.cfg.SecretsDir(), filepath.Dir(m.cfg.PhasesFile(m.cfg.Containerd.Namespace, "any")))
	staged, errStaged := m.binds.Left()
	for _, id := range staged {
		names[id] = true
	}
	held, errHeld := m.held(ctx)
	for _, id := range held {
		names[id] = true
	}
	return names, errors.Join(errAttached, errFolders, errStaged, errHeld)
}

// presentIn adds the names that begin with a sandbox's id: a file that was being written
// has a longer one.
func (m *Manager) presentIn(names map[string]bool, folders ...string) error {
	var errs []error
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			name, _, _ := strings.Cut(e.Name(), ".")
			names[name] = true
		}
	}
	return errors.Join(errs...)
}

// attached tells whose attachments stay.
func (m *Manager) attached() (map[string]bool, error) {
	ids := map[string]bool{}
	slots, err := m.store.Slots() // first: one may become a sandbox meanwhile
	if err != nil {
		return nil, err
	}
	for _, s := range slots {
		ids[string(s.ID)] = true
	}
	all, err := m.store.All()
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if !r.Clean {
			ids[string(r.ID)] = true
		}
	}
	return ids, nil
}

// sweep finishes the teardowns that failed.
func (m *Manager) sweep(ctx context.Context) error {
	m.mu.Lock()
	var ids []sandbox.ID
	for id := range m.unclean {
		if m.keepers[id] == nil {
			ids = append(ids, id)
		}
	}
	m.mu.Unlock()
	var errs []error
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(ctx, undoTimeout)
		err := m.cleanUp(ctx, id)
		cancel()
		if err == nil {
			err = m.forgetStillborn(id)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// forgetStillborn drops the record of a sandbox whose create has long failed.
func (m *Manager) forgetStillborn(id sandbox.ID) error {
	rec, err := m.store.Get(id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil || !stillborn(&rec) {
		return err
	}
	return m.forget(id)
}
