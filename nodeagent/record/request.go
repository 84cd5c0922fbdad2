package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/netpolicy"
)

// Request is what an owner asked for. What is absent is the zero value.
type Request struct {
	RequestID string            `json:"request_id,omitempty"`
	Name      string            `json:"name,omitempty"`
	Image     string            `json:"image"`
	Argv      []string          `json:"argv,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	Workdir   string            `json:"workdir,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
	Resources Resources         `json:"resources"`
	Network   netpolicy.Spec    `json:"network"`
	Ports     []Port            `json:"ports,omitempty"`
	Timeout   time.Duration     `json:"timeout"`
	// IdleTimeout ends it when it was idle for so long; 0: never.
	IdleTimeout time.Duration `json:"idle_timeout,omitempty"`
	Ready       *Probe        `json:"ready,omitempty"`
	Mounts      []Mount       `json:"mounts,omitempty"`
	// Secrets join the environment. Their values are kept nowhere but with the sandbox.
	Secrets Secrets `json:"secrets,omitempty"`
	Streams
	// Checkpoint that it is made from; empty: from Image.
	Checkpoint string `json:"checkpoint,omitempty"`
	// GPU is what it wants of GPUs; nil: none.
	GPU *GPURequest `json:"gpu,omitempty"`
}

// GPURequest asks for GPUs: so many, or these.
type GPURequest struct {
	Count uint32 `json:"count,omitempty"`
	// Devices by index, UUID or CDI name, as they were said.
	Devices []string `json:"devices,omitempty"`
	// Capabilities of the driver, sorted.
	Capabilities []string `json:"capabilities,omitempty"`
}

// Number of GPUs that are asked for.
func (r *GPURequest) Number() uint32 {
	if r == nil {
		return 0
	}
	return max(r.Count, uint32(len(r.Devices)))
}

// Streams of a program.
type Streams struct {
	Stdin bool `json:"stdin,omitempty"`
	TTY   bool `json:"tty,omitempty"`
	Size  Size `json:"size,omitzero"`
	// Block the program when output is not read, instead of dropping the oldest.
	Block bool `json:"block,omitempty"`
}

// Size of a terminal.
type Size struct {
	Columns uint16 `json:"columns,omitempty"`
	Rows    uint16 `json:"rows,omitempty"`
}

// Resources are hard limits, and what a sandbox gets when all is wanted; zero is none.
type Resources struct {
	CPU              float64 `json:"cpu,omitempty"`
	MemoryMiB        uint64  `json:"memory_mib,omitempty"`
	CPURequest       float64 `json:"cpu_request,omitempty"`
	MemoryRequestMiB uint64  `json:"memory_request_mib,omitempty"`
	PIDs             uint64  `json:"pids,omitempty"`
	DiskMiB          uint64  `json:"disk_mib,omitempty"`
}

// Probe tells when a sandbox is ready: a TCP port that accepts, or a program that exits
// with 0.
type Probe struct {
	Port     uint16        `json:"port,omitempty"`
	Argv     []string      `json:"argv,omitempty"`
	Timeout  time.Duration `json:"timeout"`
	Interval time.Duration `json:"interval"`
}

// Mount is a bind mount of Source, or a tmpfs if Source is empty.
type Mount struct {
	Target   string `json:"target"`
	Source   string `json:"source,omitempty"`
	Writable bool   `json:"writable,omitempty"`
	SizeMiB  uint64 `json:"size_mib,omitempty"`
}

// Digest tells two requests apart that carry the same request id.
func (r Request) Digest() (string, error) {
	data, err := json.Marshal(r) // maps in the order of their keys
	if err != nil {
		return "", fmt.Errorf("digest of a request: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}
