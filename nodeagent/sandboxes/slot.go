package sandboxes

import (
	"errors"
	"runtime"

	"github.com/containerd/errdefs"

	"brig/internal/netpolicy"
	"brig/internal/sandbox"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
)

// Shape of a sandbox with these resources on this machine.
func Shape(r record.Resources) record.Shape { return record.ShapeOf(r, runtime.NumCPU()) }

// fits tells why a sandbox has to be booted for its request: what a slot could not give it
// as if it had been.
func fits(r *record.Request, policy netpolicy.Policy) metrics.Cold {
	switch {
	case policy.Blocked():
		return metrics.ColdNetwork // the kernel of a slot has a link, one without a network has none
	case r.GPU != nil:
		return metrics.ColdGPU // its kernel is told of devices at its boot
	}
	return metrics.ColdNot
}

// takeSlot takes a slot for a request, or says why there is none.
func (m *Manager) takeSlot(r *record.Request, policy netpolicy.Policy, from origin) (record.Slot, metrics.Cold) {
	if m.pool == nil {
		return record.Slot{}, metrics.ColdOff
	}
	if why := fits(r, policy); why != metrics.ColdNot {
		return record.Slot{}, why
	}
	shape := Shape(r.Resources)
	if r.Checkpoint != "" {
		held, ok, err := m.holdable(r, from)
		if err != nil {
			m.log.Warn("what is held of a checkpoint is not used", "checkpoint", r.Checkpoint, "err", err)
		}
		if !ok {
			return record.Slot{}, metrics.ColdCheckpoint
		}
		shape.Held = held
	}
	slot, ok := m.pool.Take(shape)
	if !ok {
		return record.Slot{}, metrics.ColdEmpty
	}
	return slot, metrics.ColdNot
}

// spent is a slot that did not become a sandbox. Nothing of its request ran, so that it can
// be tried anew.
type spent struct{ error }

func (s spent) Unwrap() error { return s.error }

// spoiled marks a failure that may be the slot's. What is wrong with the request is wrong
// with every sandbox.
func (k *keeper) spoiled(err error) error {
	if err == nil || !k.slot || errdefs.IsInvalidArgument(err) {
		return err
	}
	return spent{err}
}

func isSpent(err error) bool {
	var s spent
	return errors.As(err, &s)
}

// busy keeps slots from being made meanwhile.
func (m *Manager) busy() (done func()) {
	if m.pool == nil {
		return func() {}
	}
	return m.pool.Busy()
}

// hasRecord tells whether anything on record has the id. A slot becomes a sandbox in one
// transaction, never the other way round, so the order of the questions matters.
func (m *Manager) hasRecord(id sandbox.ID) (bool, error) {
	if has, err := m.store.HasSlot(id); has || err != nil {
		return has, err
	}
	if _, err := m.store.Get(id); !errdefs.IsNotFound(err) {
		return true, err
	}
	return false, nil
}

// Waiting counts the sandboxes that nobody has yet.
func (m *Manager) Waiting() int {
	if m.pool == nil {
		return 0
	}
	return m.pool.Figures().Waiting
}
