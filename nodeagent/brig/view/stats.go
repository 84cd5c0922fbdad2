package view

import (
	"fmt"
	"strconv"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// Stats are what one running sandbox uses.
type Stats struct {
	Sandbox     string     `json:"sandbox"`
	Name        string     `json:"name,omitempty"`
	At          *time.Time `json:"at"`
	Memory      uint64     `json:"memory_bytes"`
	MemoryLimit uint64     `json:"memory_limit_bytes"` // 0: none
	Processes   *uint64    `json:"processes"`          // nil: nobody answered
	Disk        *uint64    `json:"disk_bytes"`         // likewise
	Connections uint32     `json:"tunnel_connections"`
	Execs       uint32     `json:"execs"`
	Usage       Usage      `json:"usage"`
}

// Usage is what a sandbox has used in all.
type Usage struct {
	CPUNanoseconds   uint64  `json:"cpu_nanoseconds"`
	MemoryMiBSeconds float64 `json:"memory_mib_seconds"`
	GPUSeconds       float64 `json:"gpu_seconds"`
	TunnelIn         uint64  `json:"tunnel_bytes_in"`
	TunnelOut        uint64  `json:"tunnel_bytes_out"`
}

// OfStats converts what a sandbox uses.
func OfStats(s *brigv1.SandboxStats) Stats {
	return Stats{
		Sandbox: s.GetSandbox(), Name: s.GetName(), At: moment(s.GetAt()),
		Memory: s.GetMemoryBytes(), MemoryLimit: s.GetMemoryLimitBytes(), Processes: s.Processes, Disk: s.DiskBytes,
		Connections: s.GetTunnelConnections(), Execs: s.GetExecs(), Usage: OfUsage(s.GetUsage()),
	}
}

// OfUsage converts what was used.
func OfUsage(u *brigv1.Usage) Usage {
	return Usage{
		CPUNanoseconds: u.GetCpuNanoseconds(), MemoryMiBSeconds: u.GetMemoryMibSeconds(), GPUSeconds: u.GetGpuSeconds(),
		TunnelIn: u.GetTunnelBytesIn(), TunnelOut: u.GetTunnelBytesOut(),
	}
}

// AllStats converts a list; never nil, so that it prints as [].
func AllStats(in []*brigv1.SandboxStats) []Stats { return each(in, OfStats) }

// StatsRows is the table of brig stats. before, by sandbox, is what was seen last: the
// share of a processor is that of the time between; without it, none is known.
func StatsRows(in []Stats, before map[string]Stats) [][]string {
	rows := [][]string{{"SANDBOX", "NAME", "CPU", "CPU TIME", "MEMORY", "LIMIT", "PIDS", "DISK", "EXECS", "CONNECTIONS", "IN", "OUT"}}
	for _, s := range in {
		limit := "-"
		if s.MemoryLimit > 0 {
			limit = Bytes(s.MemoryLimit)
		}
		was, seen := before[s.Sandbox]
		rows = append(rows, []string{
			s.Sandbox, dash(s.Name), share(was, s, seen), time.Duration(s.Usage.CPUNanoseconds).Round(10 * time.Millisecond).String(),
			Bytes(s.Memory), limit, known(s.Processes, decimal), known(s.Disk, Bytes), fmt.Sprint(s.Execs), fmt.Sprint(s.Connections),
			Bytes(s.Usage.TunnelIn), Bytes(s.Usage.TunnelOut),
		})
	}
	return rows
}

// known writes a figure, or a dash where there is none.
func known(n *uint64, write func(uint64) string) string {
	if n == nil {
		return "-"
	}
	return write(*n)
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func share(was, is Stats, known bool) string {
	if !known || was.At == nil || is.At == nil || !is.At.After(*was.At) || is.Usage.CPUNanoseconds < was.Usage.CPUNanoseconds {
		return "-"
	}
	used := float64(is.Usage.CPUNanoseconds - was.Usage.CPUNanoseconds)
	return fmt.Sprintf("%.0f%%", 100*used/float64(is.At.Sub(*was.At)))
}
