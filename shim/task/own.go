package task

import (
	"fmt"

	"brig/internal/secrets"
	"brig/shim/bundle"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// planOwn reads what brigd alone may ask for, and adds to the spec that runsc is shown what
// it takes.
func (t *Task) planOwn(normal *specs.Spec) error {
	if !t.inOwnNamespace() {
		return nil // Normalize has refused it
	}
	var err error
	if t.own, err = bundle.OwnOf(t.spec); err != nil {
		return err
	}
	if t.own.Secrets {
		if t.secrets, err = secrets.Get(t.sandbox.config.SecretsDir(), t.request.ID); err != nil {
			return err
		}
		normal.Process.Env = bundle.WithSecrets(normal.Process.Env, t.secrets)
	}
	normal.Process.Rlimits = bundle.WithProcesses(normal.Process.Rlimits, t.own.PIDs)
	return nil
}

func (t *Task) inOwnNamespace() bool {
	return t.sandbox.shim.opts.Namespace == t.sandbox.config.Containerd.Namespace
}

// limitDisk adds a size to where writes to the root go.
func (t *Task) limitDisk() error {
	switch {
	case t.own.DiskMiB == 0:
	case t.runsc.Overlay == "none":
		return fmt.Errorf("a limit of what is written to a root that is not the sandbox's own: %w", errdefs.ErrNotImplemented)
	default:
		t.runsc.Overlay = limited(t.runsc.Overlay, t.own.DiskMiB)
	}
	return nil
}

func limited(overlay string, mib uint64) string { return fmt.Sprintf("%s,size=%dm", overlay, mib) }

// threadsOfOne and threadsOfKernel are what a sandbox takes of the host for each of its
// threads, and for its kernel and gofer: several times what was ever seen of a sandbox in
// order.
const (
	threadsOfOne    = 4
	threadsOfKernel = 1024
)

// limitThreads bounds what a sandbox with a limit of processes takes of the host's. Its own
// kernel enforces that limit; should programs go round it, as many users, or have taken
// over that kernel, the sandbox ends before the node has no more threads.
func (t *Task) limitThreads() error {
	if t.own.PIDs == 0 || t.sandbox.group == nil {
		return nil
	}
	if err := t.sandbox.group.LimitThreads(t.own.PIDs*threadsOfOne + threadsOfKernel); err != nil {
		return fmt.Errorf("limit the sandbox's threads on the host: %w", err)
	}
	return nil
}
