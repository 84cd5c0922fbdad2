package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"
	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi/transform"
	"tags.cncf.io/container-device-interface/specs-go"
)

// hookSuffix is what runsc knows NVIDIA's hooks by.
const hookSuffix = "/nvidia-cdi-hook"

// specify gives d the specification of the GPUs that can be given, and a fault to those
// that turn out not to be.
func specify(lib nvml.Interface, o Options, d *Document) error {
	var uuids []string
	for _, g := range d.GPUs {
		if g.can() {
			uuids = append(uuids, g.UUID)
		}
	}
	if len(uuids) == 0 {
		return nil
	}
	maker, err := nvcdi.New(options(lib, o)...)
	if err != nil {
		return fmt.Errorf("prepare a CDI specification: %w", err)
	}
	made, err := maker.GetSpec(uuids...)
	if err != nil {
		return fmt.Errorf("make a CDI specification: %w", err)
	}
	spec := made.Raw()
	// What is there twice goes, and the rest comes in an order that says nothing of how it
	// was found.
	if err := transform.NewSimplifier().Transform(spec); err != nil {
		return fmt.Errorf("sort the CDI specification: %w", err)
	}
	if d.Unavailable = lacking(spec); d.Unavailable == "" {
		d.CDI = whole(spec, d.GPUs)
	}
	return nil
}

// lacking says which device node of the driver's own is not there. NVIDIA's library leaves
// out what it does not find, and a program that lacks it fails in words of its own.
func lacking(spec *specs.Spec) string {
	for _, path := range []string{"/dev/nvidiactl", "/dev/nvidia-uvm"} {
		if !has(spec.ContainerEdits, path) {
			return fmt.Sprintf("the driver is loaded, but there is no %s: run nvidia-modprobe -u -c=0", path)
		}
	}
	return ""
}

// whole is spec without the GPUs whose device node is not there; nil: none is left.
func whole(spec *specs.Spec, gpus []GPU) *specs.Spec {
	for i, g := range gpus {
		if !g.can() {
			continue
		}
		named := func(d specs.Device) bool { return d.Name == g.UUID || d.Name == strconv.Itoa(g.Index) }
		n := slices.IndexFunc(spec.Devices, named)
		if path := fmt.Sprintf("/dev/nvidia%d", g.Minor); n < 0 || !has(spec.Devices[n].ContainerEdits, path) {
			gpus[i].Fault = fmt.Sprintf("there is no %s: run nvidia-modprobe -c=%d", path, g.Minor)
			spec.Devices = slices.DeleteFunc(spec.Devices, named)
		}
	}
	if len(spec.Devices) == 0 {
		return nil
	}
	return spec
}

func has(edits specs.ContainerEdits, path string) bool {
	return slices.ContainsFunc(edits.DeviceNodes, func(n *specs.DeviceNode) bool { return n.Path == path })
}

func options(lib nvml.Interface, o Options) []nvcdi.Option {
	return []nvcdi.Option{
		nvcdi.WithLogger(silent{}),
		nvcdi.WithNvmlLib(lib),
		nvcdi.WithMode(nvcdi.ModeNvml),
		nvcdi.WithDriverRoot(o.DriverRoot),
		nvcdi.WithDevRoot(devRoot(o.DriverRoot)),
		nvcdi.WithNVIDIACDIHookPath(o.Hook),
		nvcdi.WithDeviceNamers(namers()...),
		// They are the runtime's business, or change what gVisor does not have.
		nvcdi.WithDisabledHooks("apply-cuda-memory-limits", "update-application-profile"),
		nvcdi.WithFeatureFlags(
			// A socket among the mounts ends runsc's gofer.
			nvcdi.FeatureDisableIPCDiscoverer,
			// It runs code of the driver's root in this process to learn what NVML tells too.
			nvcdi.FeatureDisableNvsandboxUtils,
		),
	}
}

// namers by index, for people, and by UUID, which stays when a GPU is added.
func namers() (list []nvcdi.DeviceNamer) {
	for _, strategy := range []string{nvcdi.DeviceNameStrategyIndex, nvcdi.DeviceNameStrategyUUID} {
		n, err := nvcdi.NewDeviceNamer(strategy)
		if err != nil {
			panic(err) // both are NVIDIA's own
		}
		list = append(list, n)
	}
	return list
}

// devRoot is where /dev is: some driver containers have one of their own.
func devRoot(driverRoot string) string {
	if _, err := os.Stat(filepath.Join(driverRoot, "dev/nvidiactl")); err == nil {
		return driverRoot
	}
	return "/"
}

// silent is NVIDIA's logger. It tells of each library that is not there, most of which
// nobody misses; what matters comes back as an error.
type silent struct{}

func (silent) Debugf(string, ...any)   {}
func (silent) Errorf(string, ...any)   {}
func (silent) Infof(string, ...any)    {}
func (silent) Warningf(string, ...any) {}
func (silent) Tracef(string, ...any)   {}
