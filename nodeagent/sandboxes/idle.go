package sandboxes

import (
	"context"
	"path/filepath"
	"time"

	"brig/internal/sandbox"
	"brig/nodeagent/clock"
	"brig/nodeagent/record"
)

// activityFile is in the sandbox's folder.
const activityFile = "activity"

// keepActivity has what keeps a sandbox awake written down, if anybody asks for it. A
// sandbox is idle from the end of its making on.
func (m *Manager) keepActivity(k *keeper, rec record.Record) error {
	if rec.Request.IdleTimeout == 0 {
		return nil
	}
	if rec.State == sandbox.Creating {
		k.activity.Touch()
	}
	return k.activity.Keep(filepath.Join(m.cfg.JournalDir(string(rec.ID)), activityFile))
}

// enforceIdle ends the sandbox once it was idle for so long. What is busy when it is
// looked at is not due before a whole timeout later, so nobody need tell.
func (m *Manager) enforceIdle(ctx context.Context, k *keeper, timeout time.Duration) {
	for ctx.Err() == nil {
		now, err := clock.Now()
		if err != nil {
			m.log.Error("enforce an idle timeout", "sandbox", k.id, "err", err)
			clock.Pause(ctx, clockLook)
			continue
		}
		since, idle := k.activity.Idle()
		if !idle {
			since = now
		}
		if now-since >= timeout {
			m.log.Info("sandbox has reached its idle timeout", "sandbox", k.id)
			m.end(ctx, k, sandbox.ReasonIdleTimeout, 0)
			return
		}
		clock.Pause(ctx, min(since+timeout-now, clockLook))
	}
}
