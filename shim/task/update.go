package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/shim/cgroup"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// updateTime bounds an update: systemd may be busy.
const updateTime = 30 * time.Second

// Update changes the limits of a task's sandbox, all or none. A container of a pod has
// no limits of its own that anybody could hold it to, so it is refused others than those
// that it was made with.
func (s *Shim) Update(ctx context.Context, id string, wanted *specs.LinuxResources) error {
	t, err := s.get(id)
	if err != nil {
		return err
	}
	if t.init.isOver() || t.sandbox.isDead() {
		return fmt.Errorf("update task %s, which has ended: %w", id, errdefs.ErrNotFound)
	}
	if t.sandbox.pod {
		if err := cgroup.Unchanged(resources(t.spec), wanted); err != nil {
			return fmt.Errorf("update container %s: a pod has limits as a whole: %w", id, err)
		}
		return nil
	}
	return t.sandbox.update(ctx, wanted)
}

// UpdatePod changes the limits of a sandbox of the Sandbox API.
func (s *Shim) UpdatePod(ctx context.Context, id string, wanted *specs.LinuxResources) error {
	_, root, err := s.holder(id)
	if err != nil {
		return err
	}
	if root == nil || root.sandbox.isDead() {
		return fmt.Errorf("update pod %s, which does not run: %w", id, errdefs.ErrFailedPrecondition)
	}
	return root.sandbox.update(ctx, wanted)
}

func (b *Sandbox) update(ctx context.Context, wanted *specs.LinuxResources) error {
	if err := cgroup.Unchangeable(resources(b.root.spec), wanted); err != nil {
		return err
	}
	b.updating.Lock()
	defer b.updating.Unlock()
	undo, err := b.hold(wanted)
	if err != nil || !b.root.runsc.SystemdCgroup {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, updateTime)
	defer cancel()
	if err := b.root.runsc.Update(ctx, b.id(), b.root.request.Bundle.Dir(), wanted); err != nil {
		return errors.Join(err, undo())
	}
	return nil
}

// hold the sandbox to limits. What runsc was told at the create is done again, as it
// leaves out all limits of a cgroup that it has found, and some of systemd's.
func (b *Sandbox) hold(limits *specs.LinuxResources) (undo func() error, err error) {
	if b.group == nil {
		if cgroup.Unchanged(nil, limits) != nil {
			return nil, fmt.Errorf("limits of a sandbox that has no cgroup of its own: %w", errdefs.ErrFailedPrecondition)
		}
		return func() error { return nil }, nil
	}
	return b.group.Update(limits)
}

func resources(spec *specs.Spec) *specs.LinuxResources {
	if spec.Linux == nil {
		return nil
	}
	return spec.Linux.Resources
}
