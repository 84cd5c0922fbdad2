package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"brig/internal/config"
	"brig/internal/failpoint"
	"brig/nodeagent/gpus"
)

// checkedGPUs are the node's, with the look that comes before each is given away.
type checkedGPUs struct {
	*gpus.Node
	cfg *config.Config
}

// moduleVersion is where NVIDIA's kernel module tells its version.
const moduleVersion = "/proc/driver/nvidia/version"

// Check refuses where gVisor would end in words that nobody understands.
func (g checkedGPUs) Check(context.Context, []int) error {
	if failpoint.Skips("gpu.check") {
		return nil
	}
	_, err := os.Stat(moduleVersion)
	if errors.Is(err, os.ErrNotExist) {
		return errdefs.ErrFailedPrecondition.WithMessage("sandboxes cannot have GPUs here: NVIDIA's kernel module is not loaded: install its driver, or load it: modprobe nvidia nvidia-uvm")
	}
	if err != nil {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandboxes cannot have GPUs here: %v", err))
	}
	return nil
}
