package cgroup

import (
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Metrics is one reading in the form that containerd's users decode. One of the two is
// set, by the host's mode.
type Metrics struct {
	V1 *v1.Metrics
	V2 *v2.Metrics
}

// Empty metrics in the host's mode, for a sandbox without a group of its own.
func Empty() Metrics {
	var fs unix.Statfs_t
	unified := unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	return empty(unified)
}

func empty(unified bool) Metrics {
	if unified {
		return Metrics{V2: &v2.Metrics{Pids: new(v2.PidsStat), CPU: new(v2.CPUStat), Memory: new(v2.MemoryStat)}}
	}
	return Metrics{V1: &v1.Metrics{
		Pids: new(v1.PidsStat), CPU: &v1.CPUStat{Usage: new(v1.CPUUsage), Throttling: new(v1.Throttle)},
		Memory: &v1.MemoryStat{Usage: new(v1.MemoryEntry)},
	}}
}

// Message is the one that is set.
func (m Metrics) Message() proto.Message {
	if m.V2 != nil {
		return m.V2
	}
	return m.V1
}

// CPU time used, in nanoseconds.
func (m Metrics) CPU() uint64 {
	if m.V2 != nil {
		return m.V2.CPU.UsageUsec * 1000
	}
	return m.V1.CPU.Usage.Total
}

// Memory used, in bytes.
func (m Metrics) Memory() uint64 {
	if m.V2 != nil {
		return m.V2.Memory.Usage
	}
	return m.V1.Memory.Usage.Usage
}

// SetTasks tells how many threads there are, by whoever can count them.
func (m Metrics) SetTasks(n uint64) {
	if m.V2 != nil {
		m.V2.Pids.Current = n
		return
	}
	m.V1.Pids.Current = n
}

// Part is what one of several containers has of the whole: its time and its memory,
// under the limits that all share, and the kills at those, of which all die. What else
// the host cannot tell apart is left out.
func (m Metrics) Part(cpu, memory uint64) Metrics {
	part := empty(m.V2 != nil)
	if part.V2 != nil {
		part.V2.CPU.UsageUsec = cpu / 1000
		part.V2.Memory.Usage, part.V2.Memory.UsageLimit = memory, m.V2.Memory.UsageLimit
		part.V2.MemoryEvents = &v2.MemoryEvents{OomKill: m.V2.GetMemoryEvents().GetOomKill()}
		return part
	}
	part.V1.CPU.Usage.Total = cpu
	part.V1.Memory.Usage = &v1.MemoryEntry{Usage: memory, Limit: m.V1.Memory.Usage.Limit}
	part.V1.MemoryOomControl = &v1.MemoryOomControl{OomKill: m.V1.GetMemoryOomControl().GetOomKill()}
	return part
}
