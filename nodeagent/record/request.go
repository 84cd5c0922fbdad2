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

// Request is what an owner asked for.
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
}

// Resources are hard limits; zero is none.
type Resources struct {
	CPU       float64 `json:"cpu,omitempty"`
	MemoryMiB uint64  `json:"memory_mib,omitempty"`
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
