package wire

import (
	"brig/shim/wire/pod"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// podResources is the sum of what the pod's containers may use and what its runtime
// class adds; nil where there is no limit.
func podResources(containers, overhead *pod.Resources) *specs.LinuxResources {
	if containers == nil {
		return nil
	}
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: containers.CpusetCpus, Mems: containers.CpusetMems}, Memory: &specs.LinuxMemory{}}
	if period := uint64(containers.CpuPeriod); period > 0 {
		r.CPU.Period = &period
	}
	if containers.CpuQuota > 0 {
		quota := containers.CpuQuota + overhead.GetCpuQuota()
		r.CPU.Quota = &quota
	}
	if containers.CpuShares > 0 {
		shares := uint64(containers.CpuShares + overhead.GetCpuShares())
		r.CPU.Shares = &shares
	}
	if containers.MemoryLimitInBytes > 0 {
		limit := containers.MemoryLimitInBytes + overhead.GetMemoryLimitInBytes()
		r.Memory.Limit = &limit
	}
	return r
}
