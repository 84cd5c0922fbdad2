package fake

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"brig/nodeagent/gpus"
)

// GPUs are a node's.
type GPUs struct {
	// Unavailable is why there are none; or there are Count, healthy ones.
	Unavailable string
	Count       int
	// Unusable are the minor numbers of those that Check refuses.
	Unusable []int
}

// UUID of the GPU of an index.
func UUID(index int) string { return fmt.Sprintf("GPU-%08x-0000-4000-8000-000000000000", index) }

// Known are all.
func (g GPUs) Known() gpus.Inventory {
	i := gpus.Inventory{Unavailable: g.Unavailable, Driver: "999.88.77"}
	for n := range g.Count {
		i.GPUs = append(i.GPUs, gpus.GPU{Index: n, UUID: UUID(n), Name: "GPU of a test", MemoryBytes: 1 << 30, Minor: n})
	}
	return i
}

// Inventory is the same.
func (g GPUs) Inventory(context.Context) (gpus.Inventory, error) { return g.Known(), nil }

// Check refuses the unusable.
func (g GPUs) Check(_ context.Context, minors []int) error {
	for _, m := range minors {
		if slices.Contains(g.Unusable, m) {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("GPU with minor number %d is broken", m))
		}
	}
	return nil
}
