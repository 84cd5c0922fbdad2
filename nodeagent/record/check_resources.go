package record

// The bounds of resources. What is above the greatest is a mistake in the unit.
const (
	MinCPU    = 0.01
	MaxCPU    = 1 << 16
	MinMemory = 32
	MaxMemory = 1 << 32
	MinPIDs   = 8
	MaxPIDs   = 1 << 22
	MinDisk   = 16
	MaxDisk   = 1 << 32
)

// or returns r with what it does not say taken of defaults.
func (r Resources) or(defaults Resources) Resources {
	if r.CPU == 0 {
		r.CPU = defaults.CPU
	}
	if r.MemoryMiB == 0 {
		r.MemoryMiB = defaults.MemoryMiB
	}
	if r.PIDs == 0 {
		r.PIDs = defaults.PIDs
	}
	if r.DiskMiB == 0 {
		r.DiskMiB = defaults.DiskMiB
	}
	return r
}

// check has conditions that NaN does not meet either.
func (r Resources) check(l Limits) error {
	if r.CPU != 0 && !(r.CPU >= MinCPU && r.CPU <= MaxCPU) {
		return invalid("invalid resources.cpu %v: want at least %v cores", r.CPU, MinCPU)
	}
	if r.CPURequest != 0 && !(r.CPURequest >= MinCPU && r.CPURequest <= MaxCPU) {
		return invalid("invalid resources.cpu_request %v: want at least %v cores", r.CPURequest, MinCPU)
	}
	if r.CPU != 0 && r.CPURequest > r.CPU {
		return invalid("invalid resources.cpu_request %v: at most the limit, cpu, which is %v", r.CPURequest, r.CPU)
	}
	for _, n := range []struct {
		field    string
		n        uint64
		min, max uint64
	}{
		{"memory_mib", r.MemoryMiB, MinMemory, MaxMemory},
		{"memory_request_mib", r.MemoryRequestMiB, 1, MaxMemory},
		{"pids", r.PIDs, MinPIDs, MaxPIDs},
		{"disk_mib", r.DiskMiB, MinDisk, MaxDisk},
	} {
		if n.n != 0 && n.n < n.min {
			return invalid("invalid resources.%s %d: want at least %d", n.field, n.n, n.min)
		}
		if n.n > n.max {
			return invalid("invalid resources.%s %d: want at most %d", n.field, n.n, n.max)
		}
	}
	if r.MemoryMiB != 0 && r.MemoryRequestMiB > r.MemoryMiB {
		return invalid("invalid resources.memory_request_mib %d: at most the limit, memory_mib, which is %d", r.MemoryRequestMiB, r.MemoryMiB)
	}
	return r.checkCounted(l)
}

// checkCounted: what has no limit cannot be counted.
func (r Resources) checkCounted(l Limits) error {
	if l.CPU && r.CPU == 0 {
		return invalid("resources.cpu is missing: this node has a quota of cores (quotas.cpu), so every sandbox needs a limit")
	}
	if l.Memory && r.MemoryMiB == 0 {
		return invalid("resources.memory_mib is missing: this node has a quota of memory (quotas.memory_mib), so every sandbox needs a limit")
	}
	return nil
}
