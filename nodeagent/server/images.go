package server

import (
	"context"
	"errors"
	"io"
	"sync"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
	"brig/nodeagent/socket"
)

type imageService struct{ *Server }

func (s imageService) Pull(ctx context.Context, r *connect.Request[brigv1.PullRequest], stream *connect.ServerStream[brigv1.PullResponse]) error {
	if err := record.CheckImage(r.Msg.GetImage()); err != nil {
		return err
	}
	if record.IsSnapshot(r.Msg.GetImage()) {
		return errdefs.ErrNotFound.WithMessage("no registry has image " + r.Msg.GetImage() + ": snapshots come from sandboxes of this node")
	}
	var mu sync.Mutex // guards done and total
	var done, total uint64
	auth := r.Msg.GetAuth()
	credentials := engine.Credentials{Username: auth.GetUsername(), Password: auth.GetPassword(), IdentityToken: auth.GetIdentityToken()}
	image, err := s.engine.Pull(ctx, r.Msg.GetImage(), credentials, func(d, t uint64) {
		mu.Lock()
		done, total = d, t
		mu.Unlock()
		// A client that has gone ends ctx, and with it the pull.
		_ = stream.Send(&brigv1.PullResponse{DoneBytes: d, TotalBytes: t})
	})
	if err != nil {
		return err
	}
	return stream.Send(&brigv1.PullResponse{DoneBytes: done, TotalBytes: total, Image: imageTo(image)})
}

func (s imageService) Import(ctx context.Context, stream *connect.ClientStream[brigv1.ImportRequest]) (*connect.Response[brigv1.ImportResponse], error) {
	if err := rootAlone(ctx, "import"); err != nil {
		return nil, err
	}
	images, err := s.engine.Import(ctx, &chunks{stream: stream})
	if err != nil {
		return nil, err
	}
	answer := &brigv1.ImportResponse{}
	for _, i := range images {
		answer.Images = append(answer.Images, imageTo(i))
	}
	return connect.NewResponse(answer), nil
}

// rootAlone refuses other callers. Names of images are one for all users of a node:
// whoever could give one a content of his own would run it in others' sandboxes. A
// pull gives a name what its registry says, so anybody may.
func rootAlone(ctx context.Context, deed string) error {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return err
	}
	if uid != 0 {
		return errdefs.ErrPermissionDenied.WithMessage("only root may " + deed + " images, whose names all users share: pull from a registry, or ask root")
	}
	return nil
}

// chunks reads a stream of messages as bytes.
type chunks struct {
	stream *connect.ClientStream[brigv1.ImportRequest]
	rest   []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if !c.stream.Receive() {
			if err := c.stream.Err(); err != nil && !errors.Is(err, io.EOF) {
				return 0, err
			}
			return 0, io.EOF
		}
		c.rest = c.stream.Msg().GetChunk()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (s imageService) List(ctx context.Context, _ *connect.Request[brigv1.ImagesListRequest]) (*connect.Response[brigv1.ImagesListResponse], error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return nil, err
	}
	images, err := s.engine.Images(ctx)
	if err != nil {
		return nil, err
	}
	answer := &brigv1.ImagesListResponse{}
	for _, i := range images {
		if record.MaySee(uid, i.Name) {
			answer.Images = append(answer.Images, imageTo(i))
		}
	}
	return connect.NewResponse(answer), nil
}

func (s imageService) Remove(ctx context.Context, r *connect.Request[brigv1.ImagesRemoveRequest]) (*connect.Response[brigv1.ImagesRemoveResponse], error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return nil, err
	}
	if err := record.CheckImage(r.Msg.GetImage()); err != nil {
		return nil, err
	}
	if err := s.manager.RemoveImage(ctx, uid, r.Msg.GetImage()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ImagesRemoveResponse{}), nil
}
