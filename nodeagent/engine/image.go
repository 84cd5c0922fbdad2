package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Image in containerd.
type Image struct {
	Name      string
	Digest    string
	Size      uint64
	CreatedAt time.Time
}

// normal is the full form of an image's name: python becomes
// docker.io/library/python:latest.
func normal(name string) (string, error) {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid image %q: want [host[:port]/]name[:tag][@digest]", name))
	}
	return ref.String(), nil
}

// find returns the image of that very name, else of its normal form.
func (e *Engine) find(ctx context.Context, name string) (containerd.Image, error) {
	full, err := normal(name)
	if err != nil {
		return nil, err
	}
	for _, n := range slices.Compact([]string{full, name}) {
		image, err := e.client.GetImage(ctx, n)
		if err == nil {
			return image, nil
		}
		if gone(err) != nil {
			return nil, fmt.Errorf("look for image %s: %w", n, native(err))
		}
	}
	return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("there is no image %s on this node: pull or import it", name))
}

// Ensure makes sure that the image is there, pulling it if it is not.
func (e *Engine) Ensure(ctx context.Context, name string) error {
	_, err := e.find(e.in(ctx), name)
	if errdefs.IsNotFound(err) {
		_, err = e.Pull(ctx, name, Credentials{}, func(uint64, uint64) {})
	}
	return err
}

// Pull fetches and unpacks an image, calling progress from time to time, never
// after it returned. The credentials are forgotten then.
func (e *Engine) Pull(ctx context.Context, name string, c Credentials, progress func(done, total uint64)) (Image, error) {
	if err := c.check(); err != nil {
		return Image{}, err
	}
	full, err := normal(name)
	if err != nil {
		return Image{}, err
	}
	resolver, err := c.resolver(full)
	if err != nil {
		return Image{}, fmt.Errorf("find the registry of %s: %w", name, err)
	}
	ctx = e.in(ctx)
	meter := newMeter(e.client.ContentStore(), progress)
	stop := meter.run(ctx)
	image, err := e.client.Pull(ctx, full,
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(snapshotter),
		containerd.WithImageHandler(images.HandlerFunc(meter.see)),
		containerd.WithResolver(resolver),
	)
	stop()
	if err != nil {
		return Image{}, pullError(name, err)
	}
	return e.describe(ctx, image.Metadata())
}

// pullError says what is wrong and whose move it is.
func pullError(name string, err error) error {
	err = native(err)
	var dns *net.DNSError
	var network net.Error
	switch {
	case errdefs.IsNotFound(err), errors.Is(err, docker.ErrInvalidAuthorization), errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err),
		errors.As(err, &dns), strings.Contains(err.Error(), "insufficient_scope"):
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image %s is neither on this node nor in a registry that it can be pulled from: check the name, or import it (%v)", name, err))
	case errors.As(err, &network):
		return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("the registry of image %s does not answer: %v", name, err))
	}
	return fmt.Errorf("pull image %s: %w", name, err)
}

// Images lists what is there, by name.
func (e *Engine) Images(ctx context.Context) ([]Image, error) {
	ctx = e.in(ctx)
	all, err := e.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", native(err))
	}
	list := make([]Image, 0, len(all))
	for _, i := range all {
		d, err := e.describe(ctx, i)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// RemoveImage deletes an image and what only it used.
func (e *Engine) RemoveImage(ctx context.Context, name string) error {
	ctx = e.in(ctx)
	image, err := e.find(ctx, name)
	if err != nil {
		return err
	}
	if err := e.client.ImageService().Delete(ctx, image.Name(), images.SynchronousDelete()); err != nil {
		return fmt.Errorf("delete image %s: %w", name, native(err))
	}
	return nil
}

func (e *Engine) describe(ctx context.Context, i images.Image) (Image, error) {
	size, err := containerd.NewImage(e.client, i).Size(ctx)
	if gone(err) != nil {
		return Image{}, fmt.Errorf("size of image %s: %w", i.Name, native(err))
	}
	return Image{Name: i.Name, Digest: i.Target.Digest.String(), Size: uint64(max(size, 0)), CreatedAt: i.CreatedAt}, nil
}
