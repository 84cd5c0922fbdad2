package sandboxes

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"brig/internal/sandbox"
	"brig/nodeagent/clock"
	"brig/nodeagent/metrics"
	"brig/nodeagent/record"
)

const (
	// sampleEvery is how long memory is taken to have been as it was.
	sampleEvery = 10 * time.Second
	// recordEvery is how much of a sampled figure a kill of brigd may cost.
	recordEvery = time.Minute
	// statTime bounds what is asked about one sandbox: its kernel may be hostile.
	statTime = 2 * time.Second
	// statsAtOnce bounds how many are asked at once.
	statsAtOnce = 8
)

// Meter keeps account of what sandboxes use until the manager's context ends: a sample of
// two files each time, and one transaction a minute for all of them.
func (m *Manager) Meter() {
	m.wg.Go(func() {
		for rounds := 1; m.ctx.Err() == nil; rounds++ {
			clock.Pause(m.ctx, sampleEvery)
			m.sampleAll()
			if rounds%int(recordEvery/sampleEvery) == 0 || m.ctx.Err() != nil {
				m.recordUsage()
			}
		}
	})
}

func (m *Manager) sampleAll() {
	for _, k := range m.made() {
		m.sample(k)
	}
}

// made are the sandboxes that run.
func (m *Manager) made() []*keeper {
	return slices.DeleteFunc(m.living(), func(k *keeper) bool { return !isClosed(k.ready) || isClosed(k.ended) })
}

// living are those that run, or are being made.
func (m *Manager) living() []*keeper {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.keepers))
}

// sample takes what the kernel and the tunnels count now. A sandbox whose cgroup is gone
// keeps what was known of it.
func (m *Manager) sample(k *keeper) {
	k.meter.Tunnels(m.TunnelBytes(k.id))
	now, err := clock.Now()
	if err != nil {
		m.log.Error("sample a sandbox", "sandbox", k.id, "err", err)
		return
	}
	account, err := m.groups.Account(string(k.id))
	if err != nil {
		m.log.Debug("sample a sandbox", "sandbox", k.id, "err", err)
		return
	}
	k.meter.Sample(now, account)
}

// recordUsage records what has changed since the last time.
func (m *Manager) recordUsage() {
	changed := map[sandbox.ID]record.Usage{}
	for _, k := range m.made() {
		if total := k.meter.Total(); total != k.metered {
			changed[k.id], k.metered = total, total
		}
	}
	if len(changed) == 0 {
		return
	}
	if err := m.store.SetUsage(changed); err != nil {
		m.log.Error("record what sandboxes have used", "err", err)
	}
}

// UsageOf is what a sandbox has used until the last sample.
func (m *Manager) UsageOf(rec record.Record) record.Usage {
	if k := m.keeper(rec.ID); k != nil && rec.Live() {
		return k.meter.Total()
	}
	return rec.Usage
}

// Stats of one running sandbox.
type Stats struct {
	Record record.Record
	At     time.Time
	// Memory now, and its limit; 0: none. Bytes.
	Memory, MemoryLimit uint64
	// Processes and threads, and bytes on Disk; nil: nobody who has to be asked answered.
	Processes, Disk *uint64
	Connections     int // of its tunnels
	Execs           int // that run
	Usage           record.Usage
}

// Stats asks what the running ones of list use. Of one that does not answer in time there
// is what the node itself knows; of one that ends meanwhile there is nothing.
func (m *Manager) Stats(ctx context.Context, list []record.Record) ([]Stats, error) {
	all := make([]*Stats, len(list))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(statsAtOnce)
	for i, rec := range list {
		k := m.keeper(rec.ID)
		if k == nil || !isClosed(k.ready) || isClosed(k.ended) {
			continue
		}
		group.Go(func() error {
			all[i] = m.stats(ctx, k, rec)
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var out []Stats
	for _, s := range slices.DeleteFunc(all, func(s *Stats) bool { return s == nil }) {
		out = append(out, *s)
	}
	return out, nil
}

func (m *Manager) stats(ctx context.Context, k *keeper, rec record.Record) *Stats {
	m.sample(k)
	account, err := m.groups.Account(string(k.id))
	if err != nil {
		return nil // it has just ended
	}
	s := &Stats{Record: rec, At: time.Now(), Memory: account.Memory, Execs: m.execs.Running(k.id), Usage: k.meter.Total()}
	if s.MemoryLimit, err = m.groups.MemoryLimit(string(k.id)); err != nil {
		return nil
	}
	for _, t := range k.openTunnels() {
		n, _, _ := t.Counters()
		s.Connections += n
	}
	asking, cancel := context.WithTimeout(ctx, statTime)
	defer cancel()
	stat, err := m.runtime.Stat(asking, string(k.id))
	if isClosed(k.ended) {
		return nil
	}
	if err != nil {
		m.log.Debug("ask what a sandbox uses", "sandbox", k.id, "err", err)
	}
	s.Processes, s.Disk = stat.Processes, stat.Disk
	return s
}

// States counts the sandboxes that have not ended. Paused is what the record says.
func (m *Manager) States() (s metrics.States) {
	for _, k := range m.living() {
		switch {
		case !isClosed(k.ready):
			s.Creating++
		case m.isPaused(k.id):
			s.Paused++
		default:
			s.Running++
		}
	}
	return s
}

func (m *Manager) isPaused(id sandbox.ID) bool {
	rec, err := m.store.Get(id)
	return err == nil && rec.Paused
}

// TunnelFigures are what went through all tunnels since brigd's start.
func (m *Manager) TunnelFigures() (t metrics.Tunnels) {
	m.mu.Lock()
	t = m.gone
	keepers := slices.Collect(maps.Values(m.keepers)) // none is counted twice
	m.mu.Unlock()
	for _, k := range keepers {
		for _, open := range k.openTunnels() {
			n, _, _ := open.Counters()
			t.Open += n
		}
		in, out := k.share.Bytes()
		t.In, t.Out = t.In+in, t.Out+out
	}
	return t
}
