package engine

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// originLabel on a container names the content of its image, and keeps the garbage
// collector off it while the container is there: the image's name may be removed, or
// mean another image, but a snapshot of the sandbox builds on this one.
const originLabel = "containerd.io/gc.ref.content.brig-image"

// Origin is the name and the digest of the image that a sandbox was made from.
func (e *Engine) Origin(ctx context.Context, id string) (name, digest string, err error) {
	c, err := e.container(e.in(ctx), id)
	if err != nil {
		return "", "", err
	}
	return c.Image, c.Labels[originLabel], nil
}

// container that knows its origin.
func (e *Engine) container(ctx context.Context, id string) (containers.Container, error) {
	c, err := e.client.ContainerService().Get(ctx, id)
	if err != nil {
		return c, fmt.Errorf("look for container: %w", native(err))
	}
	if _, err := digest.Parse(c.Labels[originLabel]); err != nil {
		return c, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("sandbox %s was made by an earlier brigd, which did not note its image: make it anew", id))
	}
	return c, nil
}

// target describes the content of a container's image.
func (e *Engine) target(ctx context.Context, c containers.Container) (ocispec.Descriptor, error) {
	info, err := e.client.ContentStore().Info(ctx, digest.Digest(c.Labels[originLabel]))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("look for image %s: %w", c.Image, native(err))
	}
	d := ocispec.Descriptor{Digest: info.Digest, Size: info.Size}
	if d.MediaType, err = e.mediaType(ctx, d); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("look at image %s: %w", c.Image, err)
	}
	return d, nil
}

// Resolve returns the full name and the digest of the image that is meant by name, which
// must be there.
func (e *Engine) Resolve(ctx context.Context, name string) (full, digest string, err error) {
	image, err := e.find(e.in(ctx), name)
	if err != nil {
		return "", "", err
	}
	return image.Name(), image.Target().Digest.String(), nil
}
