package checkpoints

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// CheckGPUs refuses a checkpoint of a sandbox that has GPUs, before anything stands still.
//
// gVisor can save one only if a program of NVIDIA's in the sandbox, cuda-checkpoint, first
// moves what is in the GPUs' memory to the host's; runsc waits for that program without a
// limit, and if the image then cannot be written it leaves the CUDA programs suspended for
// good. A checkpoint that fails must not end what the sandbox does, so none is tried
// (docs/gpu.md has the details).
func CheckGPUs(sandbox string, gpus int) error {
	if gpus == 0 {
		return nil
	}
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
		"sandbox %s has GPUs, whose memory cannot be kept in a checkpoint: keep its files with a snapshot, or let its program write a checkpoint of its own", sandbox))
}
