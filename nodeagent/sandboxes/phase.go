package sandboxes

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/phases"
	"brig/internal/sandbox"
	"brig/nodeagent/metrics"
	"brig/nodeagent/tracing"
)

// phase measures a part of a create, in the figures and in the call's trace. done is
// called with what came of it, and returns that.
func (m *Manager) phase(ctx context.Context, p metrics.Phase) (part context.Context, done func(error) error) {
	begin := time.Now()
	part, end := tracing.Start(ctx, string(p))
	return part, func(err error) error {
		m.metrics.CreatePhase(p, time.Since(begin))
		end(err)
		return err
	}
}

// measure counts a create and how long it took in all.
func (m *Manager) measure(begin time.Time, err error) {
	m.metrics.CreatePhase(metrics.PhaseTotal, time.Since(begin))
	m.metrics.Created(resultOf(err))
}

func resultOf(err error) metrics.Result {
	switch {
	case err == nil:
		return metrics.Made
	case errdefs.IsAborted(err), errdefs.IsCanceled(err):
		return metrics.MakeAborted
	case errdefs.IsInvalidArgument(err), errdefs.IsNotFound(err), errdefs.IsAlreadyExists(err),
		errdefs.IsResourceExhausted(err), errdefs.IsPermissionDenied(err):
		return metrics.MakeRefused
	}
	return metrics.MakeFailed
}

// addShim adds to the trace what the shim did, in the create or, from begin on, in the
// start. Nobody misses a sandbox for want of it.
func (m *Manager) addShim(create, start context.Context, begin time.Time, id sandbox.ID) {
	list, err := phases.Take(m.cfg.PhasesFile(m.cfg.Containerd.Namespace, string(id)))
	if err != nil {
		m.log.Warn("read what the shim did", "sandbox", id, "err", err)
		return
	}
	for _, p := range list {
		if p.Begin.Before(begin) {
			tracing.Add(create, p)
		} else {
			tracing.Add(start, p)
		}
	}
}
