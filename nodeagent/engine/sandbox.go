package engine

import (
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"brig/internal/failpoint"
	"brig/internal/journal"
	"brig/internal/sandbox"
)

// Create makes the snapshot, the container and the task of s, not started. What it
// made before an error is left for Remove.
func (e *Engine) Create(ctx context.Context, s Sandbox) error {
	ctx = e.in(ctx)
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
	container, err := e.newContainer(ctx, s, image)
	if err != nil {
		return fmt.Errorf("make container: %w", native(err))
	}
	failpoint.Hit("create.container")
	if _, err := container.NewTask(ctx, streams(s), restored(s.Restore)); err != nil {
		return fmt.Errorf("make task: %w", native(err))
	}
	failpoint.Hit("create.task")
	return nil
}

// rooted is a label that keeps the garbage collector off a snapshot whether or not a
// container refers to it: Remove takes it away. A lease until there is a container would be
// two more of containerd's transactions, each synced to disk.
var rooted = snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "brig"})

// prepare makes the writable layer. An image that came without being unpacked, by
// ctr say, is unpacked on the way.
func (e *Engine) prepare(ctx context.Context, id string, image containerd.Image) ([]mount.Mount, error) {
	parent, err := e.chain(ctx, image)
	if err != nil {
		return nil, err
	}
	mounts, err := e.client.SnapshotService(snapshotter).Prepare(ctx, id, parent, rooted)
	if errdefs.IsNotFound(native(err)) {
		if err := image.Unpack(ctx, snapshotter); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", image.Name(), native(err))
		}
		mounts, err = e.client.SnapshotService(snapshotter).Prepare(ctx, id, parent, rooted)
	}
	if err != nil {
		return nil, fmt.Errorf("make a writable layer: %w", native(err))
	}
	return mounts, nil
}

// containerOf is the container of s, not stored yet, and its spec.
func (e *Engine) containerOf(ctx context.Context, s Sandbox, image containerd.Image) (containers.Container, *specs.Spec, error) {
	c := containers.Container{
		ID: s.ID, Runtime: containers.RuntimeInfo{Name: sandbox.Runtime}, Image: image.Name(),
		Snapshotter: snapshotter, SnapshotKey: s.ID, Labels: map[string]string{originLabel: image.Target().Digest.String()},
	}
	spec, err := oci.GenerateSpec(ctx, e.client, &c, e.options(s, image)...)
	if err != nil {
		return c, nil, err
	}
	c.Spec, err = typeurl.MarshalAny(spec)
	return c, spec, err
}

// newContainer makes the metadata. The client's own NewContainer takes a lease
// for as long, which nothing here needs.
func (e *Engine) newContainer(ctx context.Context, s Sandbox, image containerd.Image) (containerd.Container, error) {
	c, _, err := e.containerOf(ctx, s, image)
	if err != nil {
		return nil, err
	}
	if _, err := e.client.ContainerService().Create(ctx, c); err != nil {
		return nil, err
	}
	return e.client.LoadContainer(ctx, s.ID)
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
