package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"brig/internal/config"
	"brig/shim/bundle"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// GPUs decides about what a spec asks of NVIDIA's GPUs. An error refuses the container.
type GPUs interface {
	// Plan tells what becomes of spec, which is not changed. own: brigd asks.
	Plan(spec *specs.Spec, cfg *config.Config, own bool) (*GPUPlan, error)
	// Check tells why the node cannot give GPUs to a sandbox, of these nodes if any.
	Check(ctx context.Context, cfg *config.Config, devices []string) error
}

// GPUPlan is what becomes of a spec that may ask for GPUs.
type GPUPlan struct {
	Spec         *specs.Spec
	Devices      []string // paths of the nodes that belong to what was asked for; none: no GPU
	Capabilities []string // of the driver
	Dropped      []string // what was left out
	// Prepare does in the root, which is mounted, what makes the driver usable there.
	Prepare func(root string, mounts []specs.Mount) error
}

// planGPUs has no side effect. Without anybody to ask there are no GPUs, and devices are
// refused like all of the host's.
func (t *Task) planGPUs() (err error) {
	b := t.sandbox
	if t.gpus = (&GPUPlan{Spec: t.spec}); b.shim.opts.GPUs == nil {
		return nil
	}
	if t.gpus, err = b.shim.opts.GPUs.Plan(t.spec, b.config, t.isRoot() && t.inOwnNamespace()); err != nil {
		return err
	}
	if len(t.gpus.Dropped) > 0 {
		b.shim.opts.Log.Warn("left out for GPUs: gVisor has nothing behind it", "sandbox", b.id(), "task", t.request.ID, "what", t.gpus.Dropped)
	}
	return nil
}

// driverCapabilities of the sandbox, sorted; nil: it has no part for NVIDIA's driver. One
// that others may join has all that they may ask for, since it cannot be had later.
func (t *Task) driverCapabilities() []string {
	cfg := t.sandbox.config.GPU
	switch asked := len(t.gpus.Devices) > 0; {
	case cfg.Sandboxes == "all" || asked && t.sandbox.pod:
		return slices.Compact(slices.Sorted(slices.Values(cfg.Capabilities)))
	case asked:
		return t.gpus.Capabilities
	}
	return nil
}

// hasGPUs refuses a container whose GPUs would crash the sandbox's kernel, which has had
// no part for the driver since its boot.
func (b *Sandbox) hasGPUs(plan *GPUPlan) error {
	has := b.root.runsc.DriverCapabilities
	if len(plan.Devices) == 0 {
		return nil
	}
	if has == nil {
		return fmt.Errorf("a container with GPUs in a sandbox that was made without: give the pod the handler brig-gpu (runtimeClassName: brig-gpu): %w",
			errdefs.ErrFailedPrecondition)
	}
	for _, c := range plan.Capabilities {
		if !slices.Contains(has, c) {
			return fmt.Errorf("capability %s of NVIDIA's driver, of which the sandbox has %v: %w", c, has, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// checkGPUs asks whether the node can, so that one that cannot is refused with the reason,
// and not with the end of a kernel that did not start.
func (t *Task) checkGPUs(ctx context.Context) error {
	boots := t.isRoot() && t.runsc.DriverCapabilities != nil
	if !boots && len(t.gpus.Devices) == 0 {
		return nil
	}
	if t.sandbox.shim.opts.GPUs == nil {
		return fmt.Errorf("a sandbox for GPUs: this shim knows none: %w", errdefs.ErrNotImplemented)
	}
	if err := t.sandbox.shim.opts.GPUs.Check(ctx, t.sandbox.config, t.gpus.Devices); err != nil || len(t.gpus.Devices) == 0 {
		return err
	}
	return bundle.CheckGPUs("/", t.gpus.Spec.Linux.Devices, t.gpus.Devices)
}

// prepareGPUs writes to the root, as NVIDIA's hooks would: before the sandbox is there, into
// the layer that is the container's own.
func (t *Task) prepareGPUs(normal *specs.Spec) error {
	if len(t.gpus.Devices) == 0 {
		return nil
	}
	root := normal.Root.Path
	host, errHost := os.Stat("/")
	given, errGiven := os.Stat(root)
	if err := errors.Join(errHost, errGiven); err != nil {
		return fmt.Errorf("root filesystem of a container with GPUs: %w", err)
	}
	if os.SameFile(host, given) {
		return fmt.Errorf("GPUs in the host's own root, where links to the driver would be left: use an image: %w", errdefs.ErrInvalidArgument)
	}
	if err := unix.Access(root, unix.W_OK); err != nil {
		return fmt.Errorf("GPUs in a root filesystem that cannot be written (a view, or a lone EROFS image; links to the driver belong there): use a snapshot with a writable layer, read-only for the program if need be: %w: %w",
			err, errdefs.ErrFailedPrecondition)
	}
	return t.gpus.Prepare(root, normal.Mounts)
}
