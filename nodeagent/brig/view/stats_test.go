package view

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStatsRows(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	later := at.Add(2 * time.Second)
	was := Stats{Sandbox: "sb-1", At: &at, Usage: Usage{CPUNanoseconds: 1e9}}
	processes, disk := uint64(3), uint64(1500)
	is := Stats{
		Sandbox: "sb-1", Name: "web", At: &later, Memory: 20 << 20, MemoryLimit: 256 << 20, Processes: &processes, Disk: &disk, Execs: 1, Connections: 2,
		Usage: Usage{CPUNanoseconds: 4e9, TunnelIn: 10, TunnelOut: 2000},
	}
	want := [][]string{
		{"SANDBOX", "NAME", "CPU", "CPU TIME", "MEMORY", "LIMIT", "PIDS", "DISK", "EXECS", "CONNECTIONS", "IN", "OUT"},
		{"sb-1", "web", "150%", "4s", "21.0 MB", "268.4 MB", "3", "1.5 kB", "1", "2", "10 B", "2.0 kB"},
		{"sb-2", "-", "-", "0s", "0 B", "-", "-", "-", "0", "0", "0 B", "0 B"},
	}
	if diff := cmp.Diff(want, StatsRows([]Stats{is, {Sandbox: "sb-2", At: &later}}, map[string]Stats{"sb-1": was})); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}
