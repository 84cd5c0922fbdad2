package record

import (
	"math"
	"net/netip"

	"brig/internal/sandbox"
)

// Slot is a sandbox that waits for a request. It is nobody's, and its ID is that of the
// sandbox that it becomes: everything of it has its final name.
type Slot struct {
	ID sandbox.ID `json:"id"`
	// Waiting is set once it is booted.
	Waiting bool `json:"waiting,omitempty"`
	// Maker tells what made it: brigd, runsc, configuration.
	Maker   string     `json:"maker"`
	Made    Instant    `json:"made"`
	Shape   Shape      `json:"shape"`
	Address netip.Addr `json:"address,omitzero"`
}

// Shape is what a sandbox's kernel is told at its boot and never again: what programs find
// in /proc of processors and memory, and what it goes on from.
type Shape struct {
	// CPUs that it counts; 0: the node's.
	CPUs uint32 `json:"cpus,omitempty"`
	// MemoryMiB that it has in all; 0: the node's.
	MemoryMiB uint64 `json:"memory_mib,omitempty"`
	// Held is the checkpoint that it has loaded; the zero value: none.
	Held Held `json:"held,omitzero"`
}

// Held is a checkpoint that is loaded, with all that a restore of it fixes.
type Held struct {
	Owner      uint32 `json:"owner,omitempty"` // of the checkpoint
	Checkpoint string `json:"checkpoint,omitempty"`
	// Image tells it from another one of that name, Request what else was fixed: digests.
	Image   string `json:"image,omitempty"`
	Request string `json:"request,omitempty"`
}

// fewestCPUs is what runsc's kernel counts at least: programs leave out locks on one.
const fewestCPUs = 2

// ShapeOf resources on a node with so many processors.
func ShapeOf(r Resources, node int) Shape {
	s := Shape{MemoryMiB: r.MemoryMiB}
	if n := max(fewestCPUs, math.Ceil(r.CPU)); r.CPU > 0 && n < float64(node) {
		s.CPUs = uint32(n)
	}
	return s
}

// Resources that a sandbox of the shape is booted with.
func (s Shape) Resources() Resources { return Resources{CPU: float64(s.CPUs), MemoryMiB: s.MemoryMiB} }
