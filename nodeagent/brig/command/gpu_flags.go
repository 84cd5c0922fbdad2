package command

import (
	"strconv"
	"strings"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/spf13/pflag"
)

// gpuFlags ask for GPUs.
type gpuFlags struct {
	wanted       []string
	capabilities []string
}

func (f *gpuFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.wanted, "gpu", nil, "`GPUS`: 2 for any two of them, device=0,2 for those of these indices, a UUID (GPU-...) or a CDI name (nvidia.com/gpu=0) (names: repeatable)")
	fs.StringArrayVar(&f.capabilities, "gpu-capability", nil, "`CAPABILITY` of the GPUs' driver: compute, graphics, utility or video (repeatable; default: compute and utility)")
}

// request is nil if nothing was said. Which names there are, brigd knows.
func (f *gpuFlags) request() (*brigv1.GPURequest, error) {
	if len(f.wanted) == 0 {
		if len(f.capabilities) > 0 {
			return nil, usagef("--gpu-capability is of no use without --gpu")
		}
		return nil, nil
	}
	req := &brigv1.GPURequest{Capabilities: f.capabilities}
	for _, text := range f.wanted {
		if count, err := strconv.ParseUint(text, 10, 32); err == nil {
			if count == 0 || len(f.wanted) > 1 {
				return nil, usagef("--gpu %s: a number says how many, at least 1, and stands alone; write the GPU of an index as device=%s", text, text)
			}
			req.Count = uint32(count)
			continue
		}
		devices, err := gpuNames(text)
		if err != nil {
			return nil, err
		}
		req.Devices = append(req.Devices, devices...)
	}
	return req, nil
}

// gpuNames are those of one --gpu, which may be docker's form of it.
func gpuNames(text string) ([]string, error) {
	list := strings.TrimPrefix(text, "device=")
	names := strings.Split(list, ",")
	for _, name := range names {
		_, err := strconv.ParseUint(name, 10, 32)
		isIndex := err == nil && list != text
		if !isIndex && !strings.HasPrefix(name, "GPU-") && !strings.HasPrefix(name, "nvidia.com/gpu=") {
			return nil, usagef("--gpu %q: write it as a number of GPUs, device=INDEX[,INDEX...], GPU-UUID or nvidia.com/gpu=NAME", text)
		}
	}
	return names, nil
}
