package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// ErrRecords is what keeps a brigd from serving: without the records it would neither
// end what runs in time nor know what is nobody's.
var ErrRecords = errors.New("the records of sandboxes cannot be read")

// Recover takes over what an earlier brigd left: it watches what runs, undoes what
// was half made, cleans what has ended, and removes what no record speaks of.
func (m *Manager) Recover(ctx context.Context) error {
	all, err := m.store.All()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecords, err)
	}
	known := map[string]bool{}
	var group errgroup.Group
	group.SetLimit(8)
	for _, rec := range all {
		known[string(rec.ID)] = true
		group.Go(func() error { return m.recover(rec) })
	}
	return errors.Join(group.Wait(), m.removeOrphans(ctx, known), m.recoverKept(ctx))
}

func (m *Manager) recover(rec record.Record) error {
	switch rec.State {
	case sandbox.Creating:
		m.log.Info("undoing a half-made sandbox", "sandbox", rec.ID)
		if err := m.scrap(rec.ID); err != nil {
			m.log.Error("undo a half-made sandbox", "sandbox", rec.ID, "err", err)
		}
	case sandbox.Running:
		m.adopt(rec)
	case sandbox.Exited:
		if !rec.Clean {
			m.mark(rec.ID)
		}
	default:
		return fmt.Errorf("record %s has unknown state %q", rec.ID, rec.State)
	}
	return nil
}

// adopt watches a sandbox that another process made.
func (m *Manager) adopt(rec record.Record) {
	k := m.addKeeper(rec, func(error) {})
	k.release = m.hold(rec)
	close(k.ready)
	if rec.Deadline.Boot != m.boot {
		m.log.Warn("a sandbox was lost with the machine's restart", "sandbox", rec.ID)
		m.wg.Go(func() {
			m.finish(k, func(*record.Record) record.Exit { return record.ReasonExit(sandbox.ReasonLost, time.Now().UTC()) })
		})
		return
	}
	m.log.Info("sandbox found again", "sandbox", rec.ID)
	if rec.Address.IsValid() {
		// Without it nobody's connection is admitted to its tunnels.
		if again, err := m.takeStanding(k); err != nil {
			m.log.Error("look which policy is in force", "sandbox", rec.ID, "err", err)
		} else {
			rec = again
		}
	}
	if err := m.keepActivity(k, rec); err != nil {
		m.log.Warn("since when a sandbox is idle is not known, and counted anew", "sandbox", rec.ID, "err", err)
	}
	m.wg.Go(func() { m.realign(k) })
	m.relisten(k, rec)
	if rec.Ending != "" {
		m.wg.Go(func() { m.end(m.ctx, k, rec.Ending, 0) })
	}
	m.wg.Go(func() { m.keep(k, rec) })
}

// removeOrphans removes what has the name of a sandbox of this node and no record:
// there is none unless the store was lost.
func (m *Manager) removeOrphans(ctx context.Context, known map[string]bool) error {
	names, err := m.runtime.Names(ctx)
	if err != nil {
		return fmt.Errorf("look for orphans: %w", err)
	}
	attached, errAttached := m.network.Attached()
	folders, errFolders := os.ReadDir(filepath.Dir(m.cfg.JournalDir("any")))
	if errors.Is(errFolders, os.ErrNotExist) {
		errFolders = nil
	}
	for _, id := range attached {
		names[id] = true
	}
	for _, f := range folders {
		names[f.Name()] = true
	}
	staged, errStaged := m.binds.Left()
	for _, id := range staged {
		names[id] = true
	}
	errs := []error{errAttached, errFolders, errStaged}
	for name := range names {
		id, err := sandbox.ParseID(name)
		if err != nil || known[name] {
			continue
		}
		m.log.Warn("removing what no record speaks of", "sandbox", id)
		errs = append(errs, m.teardown(ctx, id), os.RemoveAll(m.cfg.JournalDir(name)))
	}
	return errors.Join(errs...)
}
