package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/internal/failpoint"
	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// ErrRecords is what keeps a brigd from serving: without the records it would neither
// end what runs in time nor know what is nobody's.
var ErrRecords = errors.New("the records of sandboxes cannot be read")

// keptTimeout bounds the look for what was being saved.
const keptTimeout = 10 * time.Second

// Recover takes over what an earlier brigd left: what runs is watched again and its
// tunnels listen; of what was half made or half removed it takes note. From then on every
// answer is right, so it does nothing that takes long: the repair is Reconcile's.
func (m *Manager) Recover() error {
	all, err := m.store.All()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecords, err)
	}
	for _, rec := range all {
		if err := m.takeOver(rec); err != nil {
			return err
		}
	}
	// Before anybody saves anew: what lies half made is nobody's now.
	ctx, cancel := context.WithTimeout(m.ctx, keptTimeout)
	defer cancel()
	m.report("look for checkpoints and snapshots", m.recoverKept(ctx))
	return nil
}

func (m *Manager) takeOver(rec record.Record) error {
	if !rec.Clean {
		m.allotments.Hold(rec.ID, rec.GPUs)
	}
	switch rec.State {
	case sandbox.Creating:
		m.halfMade = append(m.halfMade, m.findHalfMade(rec))
	case sandbox.Running:
		m.adopt(rec)
	case sandbox.Exited:
		if !rec.Clean {
			m.mark(rec.ID)
		}
	default:
		return fmt.Errorf("%w: %s has unknown state %q", ErrRecords, rec.ID, rec.State)
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
	m.log.Debug("sandbox found again", "sandbox", rec.ID)
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
	failpoint.Hit("recover.standing")
	m.wg.Go(func() { m.realign(k) })
	m.relisten(k, rec)
	m.execs.Adopt(m.inside(k, nil))
	failpoint.Hit("recover.tunnels")
	if rec.Ending != "" {
		m.wg.Go(func() { m.end(m.ctx, k, rec.Ending, 0) })
	}
	m.wg.Go(func() { m.keep(k, rec) })
}
