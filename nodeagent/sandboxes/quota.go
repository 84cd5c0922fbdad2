package sandboxes

import (
	"context"

	"brig/nodeagent/quota"
	"brig/nodeagent/record"
)

// Quota is the node's ledger.
func (m *Manager) Quota() *quota.Ledger { return m.quota }

// limitsOf a request of the owner's. Of what a quota counts every sandbox needs a limit.
func (m *Manager) limitsOf(owner uint32) record.Limits {
	l := m.limits
	l.CPU, l.Memory = m.quota.Limit(owner, quota.MilliCPU) != 0, m.quota.Limit(owner, quota.MemoryMiB) != 0
	return l
}

// amounts of a sandbox that are counted while it is being made or runs. Its tunnels are
// counted one by one, since they come and go.
func amounts(r *record.Request) []struct {
	kind quota.Kind
	n    uint64
} {
	return []struct {
		kind quota.Kind
		n    uint64
	}{
		{quota.Sandboxes, 1}, {quota.MemoryMiB, r.Resources.MemoryMiB}, {quota.MilliCPU, quota.Milli(r.Resources.CPU)},
		{quota.GPUs, uint64(r.GPU.Number())},
	}
}

// take counts a new sandbox before its intent is on record: all of it or nothing.
func (m *Manager) take(rec record.Record) (release func(), err error) {
	var taken []func()
	release = func() {
		for _, r := range taken {
			r()
		}
	}
	for _, a := range amounts(&rec.Request) {
		r, err := m.quota.Take(rec.Owner, a.kind, a.n)
		if err != nil {
			release()
			return func() {}, err
		}
		taken = append(taken, r)
	}
	return release, nil
}

// hold counts a sandbox that is there.
func (m *Manager) hold(rec record.Record) (release func()) {
	var held []func()
	for _, a := range amounts(&rec.Request) {
		held = append(held, m.quota.Hold(rec.Owner, a.kind, a.n))
	}
	return func() {
		for _, r := range held {
			r()
		}
	}
}

// repeatOr answers a request that is refused: a repeated one needs nothing new.
func (m *Manager) repeatOr(ctx context.Context, rec record.Record, refusal error) (record.Record, error) {
	earlier, err := m.store.Requested(rec)
	if err != nil || earlier == nil {
		return record.Record{}, refusal
	}
	return m.repeat(ctx, earlier, rec)
}
