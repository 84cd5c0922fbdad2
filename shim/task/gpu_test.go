package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/config"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// annotationGPU is what asks this file's cards for a GPU.
const annotationGPU = "test/gpu"

// cards give a GPU to whoever asks by annotation. It has no node, so that what comes before
// runsc can be tested on a machine without one; there runsc boots no sandbox with nvproxy.
type cards struct {
	broken  error // why the node has none
	checked [][]string
	roots   []string // that were prepared
}

func (c *cards) Plan(spec *specs.Spec, _ *config.Config, own bool) (*GPUPlan, error) {
	plan := &GPUPlan{Spec: spec}
	if caps, asked := spec.Annotations[annotationGPU]; asked {
		plan.Devices, plan.Capabilities, plan.Prepare = []string{"/dev/nvidia0"}, strings.Split(caps, ","), c.prepare
	}
	if own {
		return nil, errors.New("nobody here is brigd")
	}
	return plan, nil
}

func (c *cards) Check(_ context.Context, _ *config.Config, devices []string) error {
	c.checked = append(c.checked, devices)
	return c.broken
}

func (c *cards) prepare(root string, _ []specs.Mount) error {
	c.roots = append(c.roots, root)
	return os.WriteFile(filepath.Join(root, "library"), []byte("prepared"), 0o644)
}

func setUpGPU(t *testing.T, argv ...string) (*fixture, *cards) {
	f, c := setUp(t, argv...), new(cards)
	f.opts.GPUs = c
	f.spec.Annotations = map[string]string{annotationGPU: "compute,utility"}
	return f, c
}

// refused wants a create to fail with the line, and to leave nothing in the bundle.
func (f *fixture) refused(want string) {
	f.t.Helper()
	if err := f.create(); err == nil || !strings.Contains(err.Error(), want) {
		f.t.Errorf("create: %v; want %q", err, want)
	}
	if left, _ := filepath.Glob(string(f.request.Bundle.Dir())); left != nil {
		f.t.Errorf("left: %v", left)
	}
}

// TestGPUOnABrokenNode: the reason is told before anything is made.
func TestGPUOnABrokenNode(t *testing.T) {
	f, c := setUpGPU(t, "/bin/true")
	c.broken = fmt.Errorf("the driver is too new: %w", errdefs.ErrFailedPrecondition)
	f.refused("the driver is too new")
	if len(c.checked) != 1 || len(c.roots) != 0 {
		t.Errorf("checked %v, prepared %v", c.checked, c.roots)
	}
}

// TestSandboxesOfTheGPUClass are for GPUs from their boot, whoever comes; others ask the
// node nothing.
func TestSandboxesOfTheGPUClass(t *testing.T) {
	f, c := setUpGPU(t, "/bin/true")
	f.spec.Annotations = nil
	c.broken = errors.New("no driver")
	f.request.Config.GPU.Sandboxes = "all"
	f.refused("no driver")
	gpus := f.opts.GPUs
	f.opts.GPUs = nil
	f.refused("this shim knows none")
	f.opts.GPUs, f.request.Config.GPU.Sandboxes, c.checked = gpus, "asked", nil
	f.must(f.create())
	if c.checked != nil {
		t.Errorf("a sandbox without GPUs: checked %v", c.checked)
	}
}

// TestGPUJoinsSandboxWithout: the sentry would crash (a nil pointer) at the first use, so
// the line comes that names the handler.
func TestGPUJoinsSandboxWithout(t *testing.T) {
	f := setUpPod(t)
	c := new(cards)
	f.opts.GPUs = c
	_, err := f.join("gpu", func(_ *CreateRequest, spec *specs.Spec) {
		spec.Annotations = map[string]string{annotationGPU: "compute"}
	}, "/bin/true")
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "give the pod the handler brig-gpu") {
		t.Errorf("a GPU in a sandbox without: %v", err)
	}
	if len(c.checked)+len(c.roots) != 0 {
		t.Errorf("checked %v, prepared %v", c.checked, c.roots)
	}
	_, err = f.join("plain", nil, "/bin/true")
	f.must(err)
}

func TestDriverCapabilitiesOfASandbox(t *testing.T) {
	cfg := config.Defaults()
	cfg.GPU.Capabilities = []string{"video", "compute", "utility", "video"}
	for _, c := range []struct {
		sandboxes string
		pod, asks bool
		want      string
	}{
		{"asked", false, false, ""}, {"asked", true, false, ""}, {"asked", false, true, "compute"},
		{"asked", true, true, "compute,utility,video"}, {"all", false, false, "compute,utility,video"}, {"all", false, true, "compute,utility,video"},
	} {
		cfg.GPU.Sandboxes = c.sandboxes
		one := &Task{sandbox: &Sandbox{config: &cfg, pod: c.pod}, gpus: new(GPUPlan)}
		if c.asks {
			one.gpus.Devices, one.gpus.Capabilities = []string{"/dev/nvidia0"}, []string{"compute"}
		}
		got := one.driverCapabilities()
		if strings.Join(got, ",") != c.want || c.want == "" && got != nil {
			t.Errorf("%+v: %q", c, got)
		}
	}
	b := &Sandbox{root: new(Task)}
	b.root.runsc.DriverCapabilities = []string{"compute"}
	if err := b.hasGPUs(&GPUPlan{Devices: []string{"/dev/nvidia0"}, Capabilities: []string{"compute", "video"}}); err == nil {
		t.Error("a capability that the sandbox was made without")
	}
}

// TestPreparedRoot: what a container needs of the driver is written into its own layer, also
// on EROFS, which the host mounts, so that hooks would not be skipped there either.
func TestPreparedRoot(t *testing.T) {
	f, c := setUpGPU(t, "/bin/true")
	image, lower, dir := filepath.Join(t.TempDir(), "image"), t.TempDir(), t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mkfs.erofs", image, busyboxRoot(t)).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs (of erofs-utils): %v\n%s", err, out)
	}
	erofs := mount.Mount{Type: "erofs", Source: image, Options: []string{"ro", "loop"}}
	f.must(erofs.Mount(lower))
	t.Cleanup(func() { _ = mount.UnmountAll(lower, 0) })
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	f.must(errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)))
	f.spec.Root = &specs.Root{Path: "rootfs", Readonly: true}

	f.request.Rootfs = []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + lower, "upperdir=" + upper, "workdir=" + work}}}
	gone := errors.New("as far as a machine without a GPU comes")
	f.opts.GPUs = stopAfter{c, gone}
	f.refused(gone.Error())
	if text, err := os.ReadFile(filepath.Join(upper, "library")); string(text) != "prepared" {
		t.Errorf("the writable layer has %q, %v", text, err)
	}
	if len(c.roots) != 1 || c.roots[0] != f.request.Bundle.Rootfs() {
		t.Errorf("prepared %v", c.roots)
	}

	f.request.Rootfs = []mount.Mount{erofs}
	f.refused("use a snapshot with a writable layer")
	f.request.Rootfs, f.spec.Root.Path = nil, "/"
	f.refused("the host's own root")
	if len(c.roots) != 1 {
		t.Errorf("prepared %v", c.roots)
	}
}

// stopAfter ends a create once the root is prepared, when runsc would come.
type stopAfter struct {
	*cards
	err error
}

func (s stopAfter) Plan(spec *specs.Spec, cfg *config.Config, own bool) (*GPUPlan, error) {
	plan, err := s.cards.Plan(spec, cfg, own)
	if err == nil {
		plan.Prepare = func(root string, mounts []specs.Mount) error { return errors.Join(s.prepare(root, mounts), s.err) }
	}
	return plan, err
}
