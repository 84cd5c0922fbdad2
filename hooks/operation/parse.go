package operation

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
)

// ErrUnknown is a hook of another version of NVIDIA's toolkit than the one we know. NVIDIA's
// own binary warns of such a hook and succeeds.
var ErrUnknown = errors.New("unknown hook")

// Bounds on argv. The kernel's own are larger than anything a specification holds.
const (
	maxArgs = 4096
	maxPath = 4095 // bytes, PATH_MAX without its end
)

// Parse reads a hook's argv, with args[0] any path of nvidia-cdi-hook, or of nvidia-ctk
// followed by "hook". Flags are --x v or --x=v; where one may be repeated, commas separate
// values, too, as in NVIDIA's.
//
// It returns (nil, nil) for hooks that are left out on purpose:
//
//   - disable-device-node-modification: the sentry itself says so in /proc/driver/nvidia.
//   - chmod: NVIDIA's workaround for an old crun, about folders of /dev, which is the sentry's.
//   - update-application-profile: it chooses the GPU of EGL and Vulkan, which have none here.
//   - noop.
//
// The error wraps ErrUnknown for other names, errdefs.ErrNotImplemented for
// apply-cuda-memory-limits, since a limit that holds nobody is worse than none, and
// errdefs.ErrInvalidArgument for flags that their hook does not have.
func Parse(args []string) (Operation, error) {
	if len(args) == 0 || len(args) > maxArgs {
		return nil, fmt.Errorf("a hook with %d arguments: %w", len(args), errdefs.ErrInvalidArgument)
	}
	name, rest, err := command(args)
	if err != nil {
		return nil, err
	}
	h, known := hooks[name]
	if !known {
		return nil, fmt.Errorf("%w: %.64q", ErrUnknown, name)
	}
	f, err := parseFlags(rest, h.flags)
	if err != nil {
		return nil, fmt.Errorf("hook %s: %w", name, err)
	}
	if h.make == nil {
		return nil, nil
	}
	o, err := h.make(f)
	if err != nil {
		return nil, fmt.Errorf("hook %s: %w", name, err)
	}
	return o, nil
}

// hook is what a name of NVIDIA's stands for here.
type hook struct {
	flags map[string]bool // their names, and whether one may be repeated
	make  func(flags) (Operation, error)
}

var hooks = map[string]hook{
	"create-symlinks": {
		flags: map[string]bool{"link": true, "container-spec": false},
		make:  newSymlinks,
	},
	"update-ldcache": {
		flags: map[string]bool{"folder": true, "ldconfig-path": false, "container-spec": false},
		make:  newLDCache,
	},
	"enable-cuda-compat": {
		flags: map[string]bool{"host-driver-version": false, "host-cuda-version": false,
			"cuda-compat-container-root": false, "container-spec": false},
		make: newCUDACompat,
	},
	"apply-cuda-memory-limits": {
		flags: map[string]bool{"driver-root": false, "gpu-id": true, "container-spec": false},
		make: func(flags) (Operation, error) {
			return nil, fmt.Errorf("no limit of a GPU's memory holds a sandbox: make the CDI specification without: %w",
				errdefs.ErrNotImplemented)
		},
	},
	"disable-device-node-modification": {flags: map[string]bool{"container-spec": false}},
	"update-application-profile":       {flags: map[string]bool{"container-spec": false}},
	"chmod":                            {flags: map[string]bool{"path": true, "mode": false, "container-spec": false}},
	"noop":                             {},
}

// command finds the hook's name, behind flags that only say how much to log.
func command(args []string) (name string, rest []string, err error) {
	ctk := path.Base(args[0]) == "nvidia-ctk"
	for i, a := range args[1:] {
		switch {
		case strings.HasPrefix(a, "-"):
			if !logging[strings.TrimLeft(a, "-")] {
				return "", nil, fmt.Errorf("%w, behind the flag %.64q", ErrUnknown, a)
			}
		case ctk && a != "hook":
			return "", nil, fmt.Errorf("nvidia-ctk %.64q is no hook: %w", a, errdefs.ErrInvalidArgument)
		case ctk:
			ctk = false
		default:
			return a, args[i+2:], nil
		}
	}
	return "", nil, fmt.Errorf("%w: none is named", ErrUnknown)
}

var logging = map[string]bool{"debug": true, "d": true, "quiet": true, "debug=true": true, "debug=false": true,
	"quiet=true": true, "quiet=false": true}
