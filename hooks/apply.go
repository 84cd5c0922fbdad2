package hooks

import (
	"errors"
	"fmt"
	"slices"

	"brig/hooks/operation"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Apply does in a container's root what NVIDIA's hooks would have done there. root is a
// folder of the host, mounted and writable; mounts are those that the container will have.
// What the root holds is its author's, and leads nowhere else. Again, it changes nothing.
func (p *Plan) Apply(root string, mounts []specs.Mount) (err error) {
	if len(p.operations) == 0 {
		return nil
	}
	var coming []operation.Mount
	for _, m := range mounts {
		if m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind") {
			coming = append(coming, operation.Mount{Source: m.Source, Destination: m.Destination})
		}
	}
	r, err := operation.OpenRoot(root, coming)
	if err != nil {
		return fmt.Errorf("GPUs: open the container's root: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for _, op := range p.operations {
		if err := op.Apply(r); err != nil {
			return fmt.Errorf("GPUs: prepare the container's root: %w", err)
		}
	}
	return nil
}
