package record

import (
	"regexp"
	"slices"
	"strings"
)

// MaxGPUs is more than a machine has.
const MaxGPUs = 256

// CDIKind of GPUs: what stands before "=" in their CDI names.
const CDIKind = "nvidia.com/gpu"

// usualCapabilities are those of a request that names none.
var usualCapabilities = []string{"compute", "utility"}

var (
	gpuIndex = regexp.MustCompile(`^(0|[1-9][0-9]{0,3})$`)
	gpuUUID  = regexp.MustCompile(`^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// filled is r with the usual capabilities, as far as the node allows them, if it names none.
func (r *GPURequest) filled(allowed []string) *GPURequest {
	if r == nil {
		return nil
	}
	capabilities := r.Capabilities
	if len(capabilities) == 0 {
		capabilities = slices.DeleteFunc(slices.Clone(usualCapabilities), func(c string) bool { return !slices.Contains(allowed, c) })
	}
	return &GPURequest{Count: r.Count, Devices: r.Devices, Capabilities: slices.Sorted(slices.Values(capabilities))}
}

func (r *GPURequest) check(allowed []string) error {
	switch {
	case r == nil:
		return nil
	case r.Count == 0 && len(r.Devices) == 0:
		return invalid("gpu asks for none: give a count or devices, or leave it out")
	case r.Count > 0 && len(r.Devices) > 0:
		return invalid("gpu has a count and devices: give one of them")
	case r.Number() > MaxGPUs:
		return invalid("gpu asks for %d: at most %d", r.Number(), MaxGPUs)
	}
	for n, device := range r.Devices {
		if err := checkGPU(device); err != nil {
			return err
		}
		if slices.Contains(r.Devices[:n], device) {
			return invalid("GPU %s is asked for twice", device)
		}
	}
	return r.checkCapabilities(allowed)
}

// checkGPU accepts the forms of a name; whether a GPU has it, the node finds out.
func checkGPU(device string) error {
	name := strings.TrimPrefix(device, CDIKind+"=")
	switch {
	case gpuIndex.MatchString(name), gpuUUID.MatchString(name):
		return nil
	case name == "all":
		return invalid("GPU %q: say how many, by count", device)
	case strings.HasPrefix(name, "MIG-"), strings.Contains(name, ":"):
		return invalid("GPU %.100q is an instance of MIG, which gVisor cannot give: ask for a whole GPU", device)
	}
	return invalid("invalid GPU %.100q: want an index (0), a UUID (GPU-…) or a CDI name (%s=0)", device, CDIKind)
}

// IsGPU tells whether a text has the form of a GPU's UUID.
func IsGPU(uuid string) bool { return gpuUUID.MatchString(uuid) }

func (r *GPURequest) checkCapabilities(allowed []string) error {
	if len(r.Capabilities) == 0 {
		return invalid("gpu.capabilities is empty: this node allows %s (gpu.capabilities)", strings.Join(allowed, ", "))
	}
	for n, c := range r.Capabilities {
		if !slices.Contains(allowed, c) {
			return invalid("gpu.capabilities %.100q: this node allows %s (gpu.capabilities)", c, strings.Join(allowed, ", "))
		}
		if n > 0 && r.Capabilities[n-1] == c {
			return invalid("gpu.capabilities %s is asked for twice", c)
		}
	}
	return nil
}
