package cgroup

import (
	"strings"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
)

// tick is the unit of cpuacct.stat, the same on every architecture that gVisor has.
const tick = 10 * time.Millisecond

func (r *reader) stat1() *v1.Metrics {
	return &v1.Metrics{
		Pids: new(v1.PidsStat), CPU: r.cpu1(), Memory: r.memory1(), MemoryOomControl: r.oom1(),
		Blkio: &v1.BlkIOStat{
			IoServiceBytesRecursive: r.blkio1("blkio.throttle.io_service_bytes"),
			IoServicedRecursive:     r.blkio1("blkio.throttle.io_serviced"),
		},
	}
}

func (r *reader) cpu1() *v1.CPUStat {
	usage, throttle := &v1.CPUUsage{Total: r.number("cpuacct.usage")}, new(v1.Throttle)
	for _, text := range strings.Fields(r.text("cpuacct.usage_percpu")) {
		usage.PerCPU = append(usage.PerCPU, number(text))
	}
	pairs(r.text("cpuacct.stat"), func(key string, ticks uint64) {
		switch key {
		case "user":
			usage.User = ticks * uint64(tick)
		case "system":
			usage.Kernel = ticks * uint64(tick)
		}
	})
	pairs(r.text("cpu.stat"), func(key string, value uint64) {
		switch key {
		case "nr_periods":
			throttle.Periods = value
		case "nr_throttled":
			throttle.ThrottledPeriods = value
		case "throttled_time":
			throttle.ThrottledTime = value
		}
	})
	return &v1.CPUStat{Usage: usage, Throttling: throttle}
}

func (r *reader) memory1() *v1.MemoryStat {
	m := new(v1.MemoryStat)
	stat := r.required("memory.stat")
	fill(m, strings.ReplaceAll(stat, "hierarchical_memsw_limit", "hierarchical_swap_limit"))
	m.Usage = r.entry1("memory.")
	m.Swap = r.entry1("memory.memsw.")
	m.Kernel = r.entry1("memory.kmem.")
	m.KernelTCP = r.entry1("memory.kmem.tcp.")
	return m
}

func (r *reader) entry1(prefix string) *v1.MemoryEntry {
	return &v1.MemoryEntry{
		Usage: r.number(prefix + "usage_in_bytes"), Max: r.number(prefix + "max_usage_in_bytes"),
		Limit: r.number(prefix + "limit_in_bytes"), Failcnt: r.number(prefix + "failcnt"),
	}
}

func (r *reader) oom1() *v1.MemoryOomControl {
	m := new(v1.MemoryOomControl)
	fill(m, r.text("memory.oom_control"))
	return m
}

// blkio1 reads lines "major:minor operation value".
func (r *reader) blkio1(file string) (out []*v1.BlkIOEntry) {
	for line := range strings.Lines(r.text(file)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue // the total
		}
		major, minor, _ := strings.Cut(fields[0], ":")
		out = append(out, &v1.BlkIOEntry{Major: number(major), Minor: number(minor), Op: fields[1], Value: number(fields[2])})
	}
	return out
}
