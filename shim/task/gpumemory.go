package task

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// gpuControl is the device that runsc takes for a request of GPUs.
const gpuControl = "/dev/nvidiactl"

// servedByDriver tells whether a spec, as runsc gets it, has GPUs.
func servedByDriver(spec *specs.Spec) bool {
	return spec.Linux != nil && slices.ContainsFunc(spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == gpuControl })
}

// errGPUMemory is why a sandbox with GPUs is neither saved nor restored. runsc would do it
// with the help of a program in the sandbox, for which it waits without a limit, and leaves
// CUDA's programs suspended for good if the image then cannot be written.
var errGPUMemory = fmt.Errorf("it has GPUs, whose memory cannot be kept in an image: %w", errdefs.ErrNotImplemented)
