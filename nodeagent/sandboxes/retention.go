package sandboxes

import (
	"errors"
	"slices"
	"time"

	"brig/internal/sandbox"
	"brig/nodeagent/clock"
	"brig/nodeagent/record"
)

const (
	// expireAtOnce bounds how many ended sandboxes one pass forgets.
	expireAtOnce = 200
	// clockTrust is how long after the machine's start the wall's clock may still be
	// wrong, for want of anybody who has told it.
	clockTrust = 10 * time.Minute
)

// RemovedAt is when an ended sandbox's record and output are removed; false: not by
// themselves.
func (m *Manager) RemovedAt(r *record.Record) (time.Time, bool) {
	keep := time.Duration(m.cfg.Retention.Ended)
	if r.State != sandbox.Exited || r.Exit == nil || keep == 0 {
		return time.Time{}, false
	}
	return r.Exit.At.Add(keep), true
}

// expire forgets ended sandboxes that were kept long enough, the oldest first.
func (m *Manager) expire() error {
	keep := time.Duration(m.cfg.Retention.Ended)
	if keep == 0 {
		return nil
	}
	up, err := clock.Now()
	if err != nil {
		return err
	}
	all, err := m.store.All()
	if err != nil {
		return err
	}
	now := time.Now()
	all = slices.DeleteFunc(all, func(r record.Record) bool { return !r.Clean || !expired(&r, keep, now, up, m.boot) })
	slices.SortFunc(all, func(a, b record.Record) int { return a.Exit.At.Compare(b.Exit.At) })
	var errs []error
	for _, r := range all[:min(len(all), expireAtOnce)] {
		m.log.Info("forgetting what has ended long ago", "sandbox", r.ID, "ended", r.Exit.At)
		errs = append(errs, m.forget(r.ID))
	}
	return errors.Join(errs...)
}

// expired tells whether an end is keep ago. Of an end in this run of the machine the
// boot's clock tells, which does not jump; of an earlier one the wall's clock alone.
func expired(r *record.Record, keep time.Duration, now time.Time, up time.Duration, boot string) bool {
	switch {
	case r.Exit == nil:
		return false
	case r.Ended.Boot == boot:
		return up-r.Ended.At >= keep
	}
	return up >= clockTrust && now.Sub(r.Exit.At) >= keep
}
