package usage

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"brig/nodeagent/cgroup"
	"brig/nodeagent/record"
)

const mib = 1 << 20

func check(t *testing.T, m *Meter, want record.Usage) {
	t.Helper()
	if diff := cmp.Diff(want, m.Total()); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}

func TestMeter(t *testing.T) {
	m := New(record.Usage{}, 2)
	m.Sample(100*time.Second, cgroup.Account{CPU: 5e9, Memory: 64 * mib}) // what was before the first sample nobody knows
	m.Sample(110*time.Second, cgroup.Account{CPU: 7e9, Memory: 128 * mib})
	m.Sample(105*time.Second, cgroup.Account{CPU: 6e9, Memory: 9999 * mib}) // a slow reader's
	m.Sample(111*time.Second, cgroup.Account{CPU: 8e9, Memory: 0})
	m.Tunnels(10, 20)
	m.Tunnels(30, 40)
	m.Tunnels(20, 30) // a slow reader's
	check(t, m, record.Usage{CPU: 8 * time.Second, MemoryMiBSeconds: 64*10 + 128, GPUSeconds: 22, TunnelIn: 30, TunnelOut: 40})
}

// TestAfterARestart: the kernel has counted on, and tunnels begin anew.
func TestAfterARestart(t *testing.T) {
	before := record.Usage{CPU: 5 * time.Second, MemoryMiBSeconds: 100, TunnelIn: 7, TunnelOut: 8}
	m := New(before, 0)
	check(t, m, before)
	m.Sample(500*time.Second, cgroup.Account{CPU: 9e9, Memory: mib})
	m.Sample(501*time.Second, cgroup.Account{CPU: 9e9, Memory: mib})
	m.Tunnels(1, 1)
	check(t, m, record.Usage{CPU: 9 * time.Second, MemoryMiBSeconds: 101, TunnelIn: 8, TunnelOut: 9})
}
