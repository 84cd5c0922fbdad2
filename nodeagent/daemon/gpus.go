package daemon

import (
	"context"

	"brig/internal/config"
	"brig/internal/failpoint"
	"brig/internal/nvidia"
	"brig/nodeagent/gpus"
)

// checkedGPUs are the node's, with the look that comes before each is given away.
type checkedGPUs struct {
	*gpus.Node
	cfg *config.Config
}

// Check refuses where gVisor would end in words that nobody understands.
func (g checkedGPUs) Check(ctx context.Context, minors []int) error {
	if failpoint.Skips("gpu.check") {
		return nil
	}
	return nvidia.Check(ctx, nvidia.Node{
		DriverRoot: g.cfg.GPU.DriverRoot, Runsc: g.cfg.Runsc.Path, SpecDirs: []string{g.cfg.CDIDir()}, Minors: minors,
	})
}
