package engine

import (
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/internal/journal"
	"brig/internal/sandbox"
)

// Create makes the snapshot, the container and the task of s, not started. What it
// made before an error is left for Remove.
func (e *Engine) Create(ctx context.Context, s Sandbox) error {
	ctx = e.in(ctx)
	// The lease keeps the garbage collector off the snapshot until its container
	// refers to it.
	lease, err := e.client.LeasesService().Create(ctx, leases.WithID(s.ID))
	if err != nil && !errdefs.IsAlreadyExists(native(err)) {
		return fmt.Errorf("take a lease: %w", native(err))
	}
	failpoint.Hit("create.lease")
	lease.ID = s.ID
	ctx = leases.WithLease(ctx, s.ID)
	image, err := e.find(ctx, s.Image)
	if err != nil {
		return err
	}
	if s.ImageDigest != "" && image.Target().Digest.String() != s.ImageDigest {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("image %s is another one by now: want %s", image.Name(), s.ImageDigest))
	}
	if _, err := e.prepare(ctx, s.ID, image); err != nil {
		return err
	}
	failpoint.Hit("create.snapshot")
	container, err := e.client.NewContainer(ctx, s.ID,
		containerd.WithRuntime(sandbox.Runtime, nil),
		onSnapshot(s.ID, image.Name()),
		withOrigin(image),
		containerd.WithNewSpec(e.options(s, image)...),
	)
	if err != nil {
		return fmt.Errorf("make container: %w", native(err))
	}
	failpoint.Hit("create.container")
	if _, err := container.NewTask(ctx, streams(s), restored(s.Restore)); err != nil {
		return fmt.Errorf("make task: %w", native(err))
	}
	failpoint.Hit("create.task")
	return gone(e.client.LeasesService().Delete(ctx, lease))
}

// prepare makes the writable layer. An image that came without being unpacked, by
// ctr say, is unpacked on the way.
func (e *Engine) prepare(ctx context.Context, id string, image containerd.Image, opts ...snapshots.Opt) ([]mount.Mount, error) {
	parent, err := e.parentOf(ctx, image)
	if err != nil {
		return nil, err
	}
	mounts, err := e.client.SnapshotService(snapshotter).Prepare(ctx, id, parent, opts...)
	if errdefs.IsNotFound(native(err)) {
		if err := image.Unpack(ctx, snapshotter); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", image.Name(), native(err))
		}
		mounts, err = e.client.SnapshotService(snapshotter).Prepare(ctx, id, parent, opts...)
	}
	if err != nil {
		return nil, fmt.Errorf("make a writable layer: %w", native(err))
	}
	return mounts, nil
}

func onSnapshot(id, image string) containerd.NewContainerOpts {
	return func(_ context.Context, _ *containerd.Client, c *containers.Container) error {
		c.Snapshotter, c.SnapshotKey, c.Image = snapshotter, id, image
		return nil
	}
}

// streams hands the shim the journals by name; nobody copies.
func streams(s Sandbox) cio.Creator {
	return func(string) (cio.IO, error) { return named{streamsOf(s)}, nil }
}

func streamsOf(s Sandbox) cio.Config {
	c := cio.Config{Terminal: s.TTY, Stdout: s.Stdout.URI()}
	if !s.TTY {
		c.Stderr = s.Stderr.URI()
	}
	if s.Stdin != "" {
		c.Stdin = journal.InputURI(s.Stdin)
	}
	return c
}

type named struct{ config cio.Config }

func (n named) Config() cio.Config { return n.config }
func (named) Cancel()              {}
func (named) Wait()                {}
func (named) Close() error         { return nil }
