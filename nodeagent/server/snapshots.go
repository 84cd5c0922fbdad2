package server

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/checkpoints"
	"brig/nodeagent/socket"
)

func (s sandboxService) Pause(ctx context.Context, r *connect.Request[brigv1.PauseRequest]) (*connect.Response[brigv1.PauseResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.PauseResponse{}), s.manager.Pause(ctx, rec)
}

func (s sandboxService) Resume(ctx context.Context, r *connect.Request[brigv1.ResumeRequest]) (*connect.Response[brigv1.ResumeResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ResumeResponse{}), s.manager.Resume(ctx, rec)
}

func (s sandboxService) Snapshot(ctx context.Context, r *connect.Request[brigv1.SnapshotRequest]) (*connect.Response[brigv1.SnapshotResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	image, err := s.manager.Snapshot(ctx, rec, r.Msg.GetName())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.SnapshotResponse{Image: imageTo(image)}), nil
}

func (s sandboxService) Checkpoint(ctx context.Context, r *connect.Request[brigv1.CheckpointRequest]) (*connect.Response[brigv1.CheckpointResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	c, err := s.manager.Checkpoint(ctx, rec, r.Msg.GetName(), r.Msg.GetExit())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.CheckpointResponse{Checkpoint: checkpointTo(&c)}), nil
}

func (s sandboxService) ListCheckpoints(ctx context.Context, _ *connect.Request[brigv1.ListCheckpointsRequest]) (*connect.Response[brigv1.ListCheckpointsResponse], error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.manager.Checkpoints(uid)
	if err != nil {
		return nil, err
	}
	answer := &brigv1.ListCheckpointsResponse{}
	for i := range list {
		answer.Checkpoints = append(answer.Checkpoints, checkpointTo(&list[i]))
	}
	return connect.NewResponse(answer), nil
}

func (s sandboxService) RemoveCheckpoint(ctx context.Context, r *connect.Request[brigv1.RemoveCheckpointRequest]) (*connect.Response[brigv1.RemoveCheckpointResponse], error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.RemoveCheckpointResponse{}), s.manager.RemoveCheckpoint(uid, r.Msg.GetName())
}

func checkpointTo(c *checkpoints.Manifest) *brigv1.Checkpoint {
	return &brigv1.Checkpoint{
		Name: c.Name, OwnerUid: c.Owner, Sandbox: string(c.Sandbox), Image: c.Image, ImageDigest: c.ImageDigest,
		Size: c.Size(), RunscVersion: c.Host.Runsc, CreatedAt: timestamppb.New(c.CreatedAt),
	}
}
