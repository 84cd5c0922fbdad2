package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"brig/internal/failpoint"
	"brig/internal/rootlayer"
	"brig/internal/undo"
)

// snapshotLease begins the names of the leases that keep the garbage collector off a
// snapshot until its image refers to it. They are the record of what is being made: a
// brigd that starts drops those of one that died.
const snapshotLease = "brig-snapshot-"

// leaseTime is how long one outlives a brigd that does not come back.
const leaseTime = time.Hour

// RootLayer has the shim write what a sandbox has written to its root into a file, as a
// layer of at most maxBytes. Its programs stand still meanwhile.
func (e *Engine) RootLayer(ctx context.Context, id, path string, maxBytes int64) error {
	payload, err := rootlayer.Request{Path: path, MaxBytes: maxBytes}.Encode()
	if err != nil {
		return fmt.Errorf("encode a request for a layer: %w", err)
	}
	if err := e.askShim(e.in(ctx), id, rootlayer.TypeURL, payload); err != nil {
		return fmt.Errorf("make a layer of %s: %w", id, err)
	}
	return nil
}

// Commit makes an image of a sandbox's image and a layer on top of it, unpacked, under a
// name that is free. Whatever ends it half-way, nothing of it stays.
func (e *Engine) Commit(ctx context.Context, id, layer, name string) (_ Image, err error) {
	ctx = e.in(ctx)
	lease, err := e.client.LeasesService().Create(ctx, leases.WithID(snapshotLease+id), leases.WithExpiration(leaseTime))
	if err != nil {
		return Image{}, fmt.Errorf("take a lease: %w", native(err))
	}
	var steps undo.Stack
	defer steps.Undo(ctx, &err)
	drop := func(ctx context.Context) error {
		return gone(e.client.LeasesService().Delete(e.in(ctx), lease, leases.SynchronousDelete))
	}
	steps.Push("drop the lease", drop)
	failpoint.Hit("snapshot.lease")
	leased := leases.WithLease(ctx, lease.ID)
	target, err := e.assemble(leased, id, layer)
	if err != nil {
		return Image{}, err
	}
	failpoint.Hit("snapshot.assembled")
	image := images.Image{Name: name, Target: target}
	if err := containerd.NewImage(e.client, image).Unpack(leased, snapshotter); err != nil {
		return Image{}, fmt.Errorf("unpack %s: %w", name, native(err))
	}
	failpoint.Hit("snapshot.unpacked")
	if image, err = e.client.ImageService().Create(leased, image); err != nil {
		if errdefs.IsAlreadyExists(native(err)) {
			return Image{}, errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("there is an image %s: remove it first, or choose another name", name))
		}
		return Image{}, fmt.Errorf("name the image %s: %w", name, native(err))
	}
	failpoint.Hit("snapshot.named")
	steps.Release() // from here on it is whole; a lease that stays goes at brigd's next start
	_ = drop(context.WithoutCancel(ctx))
	return e.describe(ctx, image)
}

// assemble writes the content of an image: a layer, a config and a manifest.
func (e *Engine) assemble(ctx context.Context, id, layer string) (ocispec.Descriptor, error) {
	c, err := e.container(ctx, id)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	origin, err := e.target(ctx, c)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	parent, err := e.readParent(ctx, origin)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("read image %s: %w", c.Image, err)
	}
	added, err := e.addLayer(ctx, id, layer)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return e.addManifest(ctx, parent, added)
}

// addLayer copies the file into the content store.
func (e *Engine) addLayer(ctx context.Context, id, path string) (ocispec.Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("open the layer: %w", err)
	}
	defer f.Close()
	ref := snapshotLease + id
	_ = e.client.ContentStore().Abort(ctx, ref) // of a brigd that died
	w, err := content.OpenWriter(ctx, e.client.ContentStore(), content.WithRef(ref))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("keep the layer: %w", native(err))
	}
	defer w.Close()
	size, err := io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 1<<20)) // a message each
	if err != nil {
		return ocispec.Descriptor{}, errors.Join(fmt.Errorf("keep the layer: %w", native(err)), gone(e.client.ContentStore().Abort(context.WithoutCancel(ctx), ref)))
	}
	sum := w.Digest()
	if err := w.Commit(ctx, size, sum); err != nil && !errdefs.IsAlreadyExists(native(err)) {
		return ocispec.Descriptor{}, fmt.Errorf("keep the layer: %w", native(err))
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: sum, Size: size}, nil
}

// DropUnfinished drops what a brigd that died was making snapshots of.
func (e *Engine) DropUnfinished(ctx context.Context) error {
	ctx = e.in(ctx)
	all, err := e.client.LeasesService().List(ctx)
	errs := []error{native(err)}
	for _, l := range all {
		if strings.HasPrefix(l.ID, snapshotLease) {
			errs = append(errs, gone(e.client.ContentStore().Abort(ctx, l.ID)),
				gone(e.client.LeasesService().Delete(ctx, l, leases.SynchronousDelete)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drop unfinished snapshots: %w", err)
	}
	return nil
}
