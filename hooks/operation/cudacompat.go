package operation

import "github.com/containerd/errdefs"

// cudaCompat puts CUDA's compatibility libraries first if they are newer than the driver.
type cudaCompat struct{ driver, cuda, dir string }

const compatDir = "/usr/local/cuda/compat"

func newCUDACompat(f flags) (Operation, error) {
	return cudaCompat{f.last("host-driver-version", ""), f.last("host-cuda-version", ""), f.last("cuda-compat-container-root", compatDir)}, nil
}

// Apply writes a file in /etc/ld.so.conf.d.
func (c cudaCompat) Apply(r *Root) error { return errdefs.ErrNotImplemented }
