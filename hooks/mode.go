package hooks

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// mode is how somebody has put GPUs into a spec.
type mode int

const (
	modeNone mode = iota
	modeCDI       // device nodes, mounts and hooks, as CDI has it
)

// kind of a hook.
type kind int

const (
	foreign kind = iota // of no GPU
	cdi                 // one command of NVIDIA's CDI hooks
	legacy              // NVIDIA's runtime hook, which runs nvidia-container-cli
	runs                // nvidia-container-cli itself, as containerd's own helper has it
	unknown             // of NVIDIA's, and nobody knows what it does
)

// programs of NVIDIA's that hooks run, some of them by way of others.
var programs = map[string]kind{
	"nvidia-cdi-hook": cdi, "nvidia-ctk": cdi,
	"nvidia-container-runtime-hook": legacy, "nvidia-container-toolkit": legacy,
	"nvidia-container-cli": runs,
}

// kindOf goes by the program, which is what would be run, then by the arguments: docker's
// and containerd's helpers run a program that they are told.
func kindOf(h specs.Hook) kind {
	program := programOf(h)
	if k, ok := programs[program]; ok {
		if program == "nvidia-ctk" && !slices.Contains(h.Args, "hook") {
			return unknown
		}
		return k
	}
	if strings.Contains(program, "nvidia") {
		return unknown
	}
	for _, arg := range h.Args[min(1, len(h.Args)):] {
		for word := range strings.FieldsFuncSeq(arg, func(r rune) bool { return strings.ContainsRune(" \t\n;|&()<>\"'`=$", r) }) {
			switch k, ok := programs[strings.TrimSuffix(filepath.Base(word), ".real")]; {
			case ok && k == cdi:
				return unknown // by a shell: its arguments are nobody's to guess
			case ok:
				return runs
			}
		}
	}
	return foreign
}

// programOf a hook; NVIDIA's installer for containers keeps the program as name.real.
func programOf(h specs.Hook) string { return strings.TrimSuffix(filepath.Base(h.Path), ".real") }

// stages are all of a spec's lists of hooks, in the order in which they run.
func stages(h *specs.Hooks) []*[]specs.Hook {
	if h == nil {
		return nil
	}
	//nolint:staticcheck // deprecated, and what docker uses
	return []*[]specs.Hook{&h.Prestart, &h.CreateRuntime, &h.CreateContainer, &h.StartContainer, &h.Poststart, &h.Poststop}
}

// useCDI is what a refusal of the other mode tells a user to do.
const useCDI = "under gVisor that can show every GPU of the host; ask for CDI devices instead: --device nvidia.com/gpu=0"

// classify refuses what is not CDI. A legacy hook is there for all containers of some
// engines, and does nothing for one that asks for no device.
func classify(spec *specs.Spec) (mode, error) {
	var old, asks string
	devices, found := slices.ContainsFunc(spec.Linux.Devices, isNVIDIA), modeNone
	for _, stage := range stages(spec.Hooks) {
		for _, h := range *stage {
			switch k := kindOf(h); {
			case k == unknown:
				return 0, fmt.Errorf("hook %s %q is about NVIDIA's GPUs, and brig does not know what it does; remove it: %w", h.Path, h.Args, errdefs.ErrNotImplemented)
			case k == runs, k == legacy && visible(spec.Process.Env) != "", k == legacy && devices:
				old = h.Path
			case k == cdi:
				found = modeCDI
			}
		}
	}
	if devices {
		found = modeCDI
	}
	switch {
	case old != "" && found == modeCDI:
		return 0, fmt.Errorf("CDI devices together with the hook %s (docker's --gpus, or nvidia as default runtime): ask in one way alone, CDI's: %w", old, errdefs.ErrInvalidArgument)
	case old != "":
		if value := visible(spec.Process.Env); value != "" {
			asks = fmt.Sprintf(" with %s=%s", visibleDevices, value)
		}
		return 0, fmt.Errorf("hook %s%s (--gpus of docker and of older ctr and nerdctl): %s: %w", old, asks, useCDI, errdefs.ErrNotImplemented)
	}
	return found, nil
}

// cdiAnnotations ask containerd to inject devices.
const cdiAnnotations = "cdi.k8s.io/"

// notInjected refuses a request by annotation that nobody has carried out: the container
// would run without its GPU.
func notInjected(annotations map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		value := annotations[key]
		if strings.HasPrefix(key, cdiAnnotations) && strings.Contains(value, "nvidia.com/") {
			return fmt.Errorf("annotation %s asks for %s, and the caller has injected nothing: enable CDI in containerd (enable_cdi, cdi_spec_dirs): %w",
				key, value, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}
