package record

import "time"

// Usage is what a sandbox has used since its start.
type Usage struct {
	// CPU of all its processes, and of its part of gVisor.
	CPU time.Duration `json:"cpu,omitempty"`
	// MemoryMiBSeconds is MiB in use times seconds, sampled.
	MemoryMiBSeconds float64 `json:"memory_mib_seconds,omitempty"`
	// GPUSeconds of those allotted to it.
	GPUSeconds float64 `json:"gpu_seconds,omitempty"`
	// TunnelIn and TunnelOut are bytes to and from its ports, without TLS.
	TunnelIn  uint64 `json:"tunnel_in,omitempty"`
	TunnelOut uint64 `json:"tunnel_out,omitempty"`
}
