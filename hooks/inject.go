package hooks

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	cdispec "tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
)

// deviceNames are full CDI names of whole GPUs, sorted, each once.
func deviceNames(text string) ([]string, error) {
	names := list(text)
	if len(names) == 0 {
		return nil, fmt.Errorf("no device: %w", errdefs.ErrInvalidArgument)
	}
	for _, name := range names {
		_, class, device, err := parser.ParseQualifiedName(name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: want a CDI name, such as nvidia.com/gpu=0: %w", err, errdefs.ErrInvalidArgument)
		case class == "mig" || strings.HasPrefix(device, "MIG-") || strings.Contains(device, ":"):
			return nil, errMIG(name)
		case device == "all":
			return nil, fmt.Errorf("%s: name each GPU: %w", name, errdefs.ErrInvalidArgument)
		}
	}
	return names, nil
}

// list is a comma-separated one, sorted, each word once.
func list(text string) []string {
	var words []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

func errMIG(name string) error {
	return fmt.Errorf("%s is a part of a GPU (MIG), which gVisor cannot give; ask for a whole GPU, with MIG off: nvidia-smi -mig 0: %w",
		name, errdefs.ErrNotImplemented)
}

// inject edits spec by the CDI specifications in dir, and nothing else: those that others
// keep on the node may give GPUs that brigd has handed to somebody.
func inject(spec *specs.Spec, names []string, dir string) error {
	if slices.ContainsFunc(spec.Linux.Devices, isNVIDIA) {
		return fmt.Errorf("device nodes beside %v, which the annotation asks for: %w", names, errdefs.ErrInvalidArgument)
	}
	cache, err := cdispec.NewCache(cdispec.WithSpecDirs(dir), cdispec.WithAutoRefresh(false))
	if err != nil {
		return fmt.Errorf("read CDI specifications: %w", err)
	}
	belongs := make(map[string]bool)
	for _, name := range names {
		device := cache.GetDevice(name)
		if device == nil {
			return errors.Join(fmt.Errorf("%s is not among the GPUs of this node (%s); brig node info lists them: %w", name, dir, errdefs.ErrNotFound), readErrors(cache))
		}
		for _, node := range device.ContainerEdits.DeviceNodes {
			belongs[node.Path] = true
		}
	}
	if _, err := cache.InjectDevices(spec, names...); err != nil {
		return fmt.Errorf("inject %v: %w", names, err)
	}
	for _, d := range spec.Linux.Devices {
		if isGPU(d.Path) && !belongs[d.Path] {
			return fmt.Errorf("the CDI specification gives %s to whoever asks for %v, which it does not belong to: %w",
				d.Path, names, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// readErrors of specifications that could not be read, in the order of their paths.
func readErrors(cache *cdispec.Cache) error {
	all := cache.GetErrors()
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(all)) {
		errs = append(errs, all[path]...)
	}
	return errors.Join(errs...)
}
