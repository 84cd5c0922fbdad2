// Package usage adds up what a sandbox uses: processor time, memory times time, GPUs times
// time, bytes through its tunnels.
//
// The kernel counts processor time over restarts of brigd, tunnels count bytes from brigd's
// start on, and memory is a sample, taken to last until the next one. So a Meter that
// begins with what was on record has lost, after a kill of brigd, the memory and the bytes
// since the last record, and no processor time.
//
// Time is the boot's clock, so that a jump of the wall clock costs nobody anything. A Meter
// is safe for concurrent use.
package usage

import (
	"sync"
	"time"

	"brig/nodeagent/cgroup"
	"brig/nodeagent/record"
)

// Meter of one sandbox.
type Meter struct {
	mu     sync.Mutex // guards what follows
	total  record.Usage
	gpus   int
	at     time.Duration // of the last sample; 0: none
	memory uint64        // then, bytes
	before record.Usage
}

// New returns a meter that goes on from what is on record, of a sandbox with so many GPUs.
func New(before record.Usage, gpus int) *Meter {
	return &Meter{total: before, gpus: gpus, before: before}
}

// Sample takes what is used at a moment of the boot's clock. Samples out of order, and
// counts that fall, add nothing.
func (m *Meter) Sample(at time.Duration, a cgroup.Account) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.CPU = max(m.total.CPU, time.Duration(a.CPU))
	if m.at > 0 && at > m.at {
		seconds := (at - m.at).Seconds()
		m.total.MemoryMiBSeconds += float64(m.memory) / (1 << 20) * seconds
		m.total.GPUSeconds += float64(m.gpus) * seconds
	}
	if at > m.at {
		m.at, m.memory = at, a.Memory
	}
}

// Tunnels takes what tunnels have carried since the meter began.
func (m *Meter) Tunnels(in, out uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total.TunnelIn = max(m.total.TunnelIn, m.before.TunnelIn+in)
	m.total.TunnelOut = max(m.total.TunnelOut, m.before.TunnelOut+out)
}

// Total is all until now.
func (m *Meter) Total() record.Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}
