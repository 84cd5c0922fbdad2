package cgroup

import (
	"strconv"
	"strings"

	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
)

func (r *reader) stat2() *v2.Metrics {
	cpu, memory, events := new(v2.CPUStat), new(v2.MemoryStat), new(v2.MemoryEvents)
	fill(cpu, r.text("cpu.stat"))
	cpu.PSI = r.pressure("cpu.pressure")
	fill(memory, r.required("memory.stat"))
	memory.Usage, memory.MaxUsage, memory.UsageLimit = r.number("memory.current"), r.number("memory.peak"), r.number("memory.max")
	memory.SwapUsage, memory.SwapMaxUsage = r.number("memory.swap.current"), r.number("memory.swap.peak")
	memory.SwapLimit = r.number("memory.swap.max")
	memory.PSI = r.pressure("memory.pressure")
	fill(events, r.text("memory.events"))
	return &v2.Metrics{
		Pids: new(v2.PidsStat), CPU: cpu, Memory: memory, MemoryEvents: events,
		Io: &v2.IOStat{Usage: r.io(), PSI: r.pressure("io.pressure")},
	}
}

// io reads lines "major:minor key=value …".
func (r *reader) io() (out []*v2.IOEntry) {
	for line := range strings.Lines(r.text("io.stat")) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		major, minor, _ := strings.Cut(fields[0], ":")
		entry := &v2.IOEntry{Major: number(major), Minor: number(minor)}
		fill(entry, strings.ReplaceAll(strings.Join(fields[1:], "\n"), "=", " "))
		out = append(out, entry)
	}
	return out
}

// pressure reads lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; nil where the
// kernel does not measure it.
func (r *reader) pressure(file string) *v2.PSIStats {
	text := r.text(file)
	if text == "" {
		return nil
	}
	p := new(v2.PSIStats)
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		data := new(v2.PSIData)
		switch fields[0] {
		case "some":
			p.Some = data
		case "full":
			p.Full = data
		}
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(field, "=")
			switch average, _ := strconv.ParseFloat(value, 64); key {
			case "avg10":
				data.Avg10 = average
			case "avg60":
				data.Avg60 = average
			case "avg300":
				data.Avg300 = average
			case "total":
				data.Total = number(value)
			}
		}
	}
	return p
}
