package hooks

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// nvidiaMajor is of all of the driver's nodes but those of nvidia-uvm and nvidia-caps,
// whose numbers the host's kernel chooses.
const nvidiaMajor = 195

const (
	control = "/dev/nvidiactl"
	uvm     = "/dev/nvidia-uvm"
	tools   = "/dev/nvidia-uvm-tools"
)

// lastMinor of a GPU; those above are the driver's other nodes.
const lastMinor = 247

// without are nodes of the driver's that nvproxy has nothing behind and that no program of
// compute needs, and those of which the host has a number.
var (
	without  = []string{"/dev/nvidia-modeset", "/dev/nvidia-nvlink", "/dev/nvidia-nvswitchctl", capNode + "1", capNode + "2"}
	numbered = []string{"/dev/nvidia-nvswitch", "/dev/dri/card", "/dev/dri/renderD"}
)

// capNode is what the nodes of capabilities begin with: 1 and 2 are those to configure and
// watch MIG, the others belong to its instances.
const capNode = "/dev/nvidia-caps/nvidia-cap"

// gpuMinor reads the number of a GPU from its node's path. No two paths have one number.
func gpuMinor(path string) (minor int64, ok bool) {
	return numberAfter(path, "/dev/nvidia", lastMinor)
}

func isGPU(path string) bool {
	_, ok := gpuMinor(path)
	return ok
}

func numberAfter(path, prefix string, most int64) (number int64, ok bool) {
	text, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseInt(text, 10, 64)
	return number, err == nil && number >= 0 && number <= most && strconv.FormatInt(number, 10) == text
}

func isWithout(path string) bool {
	return slices.Contains(without, path) || slices.ContainsFunc(numbered, func(prefix string) bool {
		_, ok := numberAfter(path, prefix, math.MaxInt32)
		return ok
	})
}

// isNVIDIA tells a node of the driver's by its name, wherever it is meant to be, and by
// its number. Those of DRM are there without an NVIDIA GPU too.
func isNVIDIA(d specs.LinuxDevice) bool {
	return strings.HasPrefix(path.Clean("/"+d.Path), "/dev/nvidia") || d.Type != "p" && d.Major == nvidiaMajor
}

// keepDevices leaves the nodes that nvproxy emulates, sorted, each once, and those that
// are none of NVIDIA's, in their order.
func (p *Plan) keepDevices() error {
	var others, kept []specs.LinuxDevice
	for _, d := range p.Spec.Linux.Devices {
		switch keep, err := judge(d); {
		case err != nil:
			return err
		case keep:
			kept = append(kept, d)
		case isWithout(d.Path):
			p.drop("device %s", d.Path)
			forbid(p.Spec.Linux.Resources, d)
		default:
			others = append(others, d)
		}
	}
	slices.SortStableFunc(kept, func(a, b specs.LinuxDevice) int { return strings.Compare(a.Path, b.Path) })
	kept = slices.CompactFunc(kept, func(a, b specs.LinuxDevice) bool { return a.Path == b.Path })
	has := func(is func(string) bool) bool {
		return slices.ContainsFunc(kept, func(d specs.LinuxDevice) bool { return is(d.Path) })
	}
	switch {
	case !has(isGPU):
		return fmt.Errorf("NVIDIA's hooks or devices without a GPU: the CDI specification that the caller used is broken: %w", errdefs.ErrInvalidArgument)
	case !has(func(path string) bool { return path == control }):
		return fmt.Errorf("a GPU without %s: ask for a CDI device, nvidia.com/gpu=0, not for single nodes: %w", control, errdefs.ErrInvalidArgument)
	}
	p.Spec.Linux.Devices = slices.Concat(others, kept)
	for _, d := range kept {
		p.Devices = append(p.Devices, d.Path)
	}
	return nil
}

// judge keeps a node whose name and number are a GPU's or the driver's, and refuses one
// that pretends, or that is a request which would not be honoured.
func judge(d specs.LinuxDevice) (keep bool, err error) {
	if known, number := expected(d.Path); known {
		if d.Type != "c" || !number(d) {
			return false, fmt.Errorf("%s as device %s %d:%d, which it is not: %w", d.Path, d.Type, d.Major, d.Minor, errdefs.ErrInvalidArgument)
		}
		return true, nil
	}
	switch capability, isCap := numberAfter(d.Path, capNode, math.MaxInt32); {
	case isCap && capability > 2:
		return false, errMIG(d.Path)
	case strings.HasPrefix(d.Path, "/dev/nvidia-caps-imex-channels/"):
		return false, fmt.Errorf("%s: memory of other nodes (IMEX), which gVisor cannot give: %w", d.Path, errdefs.ErrNotImplemented)
	case isWithout(d.Path):
		return false, nil
	case isNVIDIA(d):
		return false, fmt.Errorf("device %s %d:%d: gVisor has nothing behind it: %w", d.Path, d.Major, d.Minor, errdefs.ErrNotImplemented)
	}
	return false, nil
}

// expected tells which number the node at a path has.
func expected(path string) (known bool, number func(specs.LinuxDevice) bool) {
	fixed := func(minor int64) func(specs.LinuxDevice) bool {
		return func(d specs.LinuxDevice) bool { return d.Major == nvidiaMajor && d.Minor == minor }
	}
	dynamic := func(minor int64) func(specs.LinuxDevice) bool {
		return func(d specs.LinuxDevice) bool { return d.Major > 0 && d.Major != nvidiaMajor && d.Minor == minor }
	}
	switch path {
	case control:
		return true, fixed(255)
	case uvm:
		return true, dynamic(0)
	case tools:
		return true, dynamic(1)
	}
	minor, ok := gpuMinor(path)
	return ok, fixed(minor)
}

// forbid takes back what a dropped node was allowed.
func forbid(r *specs.LinuxResources, d specs.LinuxDevice) {
	if r == nil {
		return
	}
	r.Devices = slices.DeleteFunc(r.Devices, func(rule specs.LinuxDeviceCgroup) bool {
		return rule.Allow && rule.Type == d.Type && rule.Major != nil && rule.Minor != nil && *rule.Major == d.Major && *rule.Minor == d.Minor
	})
}
