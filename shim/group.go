package shim

import (
	"errors"
	"os"

	"brig/shim/bundle"
)

// A containerd that knows version 3 of the Task API finds the shim of a pod by itself.
// Others ask for a shim for every container of it, and are told the pod's.

// podOf is the pod that the container with this bundle belongs to; empty: none, or it
// is the pod's own. A sandbox that is made by the Sandbox API has no spec.
func podOf(b bundle.Bundle) (string, error) {
	pod, err := b.SandboxOf()
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return pod, err
}
