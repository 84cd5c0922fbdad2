package command_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
)

type fakeImages struct{ *fakeNode }

func fullName(image string) string {
	if !strings.Contains(image, "/") {
		image = "docker.io/library/" + image
	}
	if !strings.Contains(filepath.Base(image), ":") {
		image += ":latest"
	}
	return image
}

func (f fakeImages) add(name string, size uint64) *brigv1.Image {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := &brigv1.Image{Name: fullName(name), Digest: "sha256:" + strings.Repeat("ab", 32), Size: size, CreatedAt: epoch}
	f.images = append(f.images, i)
	return i
}

func (f fakeImages) List(context.Context, *connect.Request[brigv1.ImagesListRequest]) (*connect.Response[brigv1.ImagesListResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return connect.NewResponse(&brigv1.ImagesListResponse{Images: f.images}), nil
}

func (f fakeImages) Pull(_ context.Context, req *connect.Request[brigv1.PullRequest], stream *connect.ServerStream[brigv1.PullResponse]) error {
	f.mu.Lock()
	f.pulls = append(f.pulls, req.Msg)
	f.mu.Unlock()
	if strings.Contains(req.Msg.Image, "missing") {
		return connect.NewError(connect.CodeNotFound, fmt.Errorf("the registry has no image %s", req.Msg.Image))
	}
	for _, done := range []uint64{0, 600_000, 1_200_000} {
		if err := stream.Send(&brigv1.PullResponse{DoneBytes: done, TotalBytes: 1_200_000}); err != nil {
			return err
		}
	}
	return stream.Send(&brigv1.PullResponse{Image: f.add(req.Msg.Image, 1_200_000)})
}

// Import takes any bytes; the image is called after them.
func (f fakeImages) Import(_ context.Context, stream *connect.ClientStream[brigv1.ImportRequest]) (*connect.Response[brigv1.ImportResponse], error) {
	var all []byte
	for stream.Receive() {
		all = append(all, stream.Msg().Chunk...)
		if strings.Contains(string(all), "broken") {
			return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("the archive is damaged"))
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("imported:%d", len(all))
	return connect.NewResponse(&brigv1.ImportResponse{Images: []*brigv1.Image{f.add(name, uint64(len(all)))}}), nil
}

func (f fakeImages) Remove(_ context.Context, req *connect.Request[brigv1.ImagesRemoveRequest]) (*connect.Response[brigv1.ImagesRemoveResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.images)
	f.images = slices.DeleteFunc(f.images, func(i *brigv1.Image) bool { return i.Name == fullName(req.Msg.Image) })
	if len(f.images) == before {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no image %q", req.Msg.Image))
	}
	return connect.NewResponse(&brigv1.ImagesRemoveResponse{}), nil
}
