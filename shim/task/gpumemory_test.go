package task

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// gpuSpec is what runsc gets to see of a container with a GPU.
func gpuSpec() *specs.Spec {
	return &specs.Spec{
		Process: &specs.Process{Args: []string{"a"}},
		Linux:   &specs.Linux{Devices: []specs.LinuxDevice{{Path: "/dev/nvidia0"}, {Path: "/dev/nvidiactl"}}},
	}
}

// TestCheckpointOfGPUs is refused before anything stands still, and so is a restore.
func TestCheckpointOfGPUs(t *testing.T) {
	for want, spec := range map[bool]*specs.Spec{true: gpuSpec(), false: {Linux: &specs.Linux{Devices: []specs.LinuxDevice{{Path: "/dev/fuse"}}}}} {
		if got := servedByDriver(spec); got != want {
			t.Errorf("%+v: %v", spec.Linux.Devices, got)
		}
	}
	if servedByDriver(&specs.Spec{}) {
		t.Error("a spec without devices")
	}
	task := &Task{sandbox: &Sandbox{}, nvproxy: true}
	if _, err := task.beginCheckpoint(); !errdefs.IsNotImplemented(err) {
		t.Errorf("checkpoint: %v", err)
	}
	task.request.Checkpoint = "/nowhere"
	if err := task.planRestore(t.Context(), gpuSpec()); !errdefs.IsNotImplemented(err) {
		t.Errorf("restore: %v", err)
	}
}
