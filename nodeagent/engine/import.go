package engine

import (
	"context"
	"fmt"
	"io"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

// Import reads an OCI or docker archive and unpacks its images.
func (e *Engine) Import(ctx context.Context, archive io.Reader) ([]Image, error) {
	ctx = e.in(ctx)
	read, err := e.client.Import(ctx, archive, containerd.WithImageRefTranslator(fullName))
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the archive is no OCI or docker image: %v", native(err)))
	}
	if len(read) == 0 {
		return nil, errdefs.ErrInvalidArgument.WithMessage("the archive names no image: save it with a name, such as localhost/python:3")
	}
	list := make([]Image, 0, len(read))
	for _, i := range read {
		if err := containerd.NewImage(e.client, i).Unpack(ctx, snapshotter); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", i.Name, native(err))
		}
		d, err := e.describe(ctx, i)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// fullName makes an image's name of an OCI archive's reference, which by the letter
// is a tag and in practice often a name.
func fullName(ref string) string {
	full, err := normal(ref)
	if err != nil {
		return ""
	}
	return full
}
