package bundle

import "github.com/opencontainers/runtime-spec/specs-go"

// limitsForRunsc leaves out zeros, which some callers send for "not set" and systemd
// would take at their word. There is always a section: runsc's update does not stand a
// spec without one.
func limitsForRunsc(in *specs.LinuxResources) *specs.LinuxResources {
	if in == nil {
		return new(specs.LinuxResources)
	}
	out := *in
	out.Pids = nil // a limit was refused
	if in.CPU != nil {
		cpu := *in.CPU
		cpu.Shares, cpu.Quota, cpu.Period = set(cpu.Shares), set(cpu.Quota), set(cpu.Period)
		out.CPU = &cpu
	}
	if in.Memory != nil {
		memory := *in.Memory
		memory.Limit, memory.Swap, memory.Reservation = set(memory.Limit), set(memory.Swap), set(memory.Reservation)
		out.Memory = &memory
	}
	return &out
}

// set is nil for what is not.
func set[T int64 | uint64](p *T) *T {
	if p != nil && *p == 0 {
		return nil
	}
	return p
}
