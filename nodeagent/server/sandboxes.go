package server

import (
	"context"
	"math"

	"connectrpc.com/connect"

	"brig/internal/journal"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/output"
	"brig/nodeagent/record"
	"brig/nodeagent/socket"
)

type sandboxService struct {
	*Server
	brigv1connect.UnimplementedSandboxesHandler
}

// find returns the sandbox that a caller names, if the caller may see it.
func (s *Server) find(ctx context.Context, ref string) (record.Record, error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return record.Record{}, err
	}
	return s.manager.Find(uid, ref)
}

func (s sandboxService) Create(ctx context.Context, r *connect.Request[brigv1.CreateRequest]) (*connect.Response[brigv1.CreateResponse], error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return nil, err
	}
	request, err := requestOf(r.Msg)
	if err != nil {
		return nil, err
	}
	rec, err := s.manager.Create(ctx, uid, request)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.CreateResponse{Sandbox: s.sandboxTo(rec)}), nil
}

func (s sandboxService) Get(ctx context.Context, r *connect.Request[brigv1.GetRequest]) (*connect.Response[brigv1.GetResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.GetResponse{Sandbox: s.sandboxTo(rec)}), nil
}

func (s sandboxService) List(ctx context.Context, r *connect.Request[brigv1.ListRequest]) (*connect.Response[brigv1.ListResponse], error) {
	uid, err := socket.Peer(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.manager.List(uid, r.Msg.GetTags(), r.Msg.GetAll())
	if err != nil {
		return nil, err
	}
	answer := &brigv1.ListResponse{}
	for _, rec := range list {
		answer.Sandboxes = append(answer.Sandboxes, s.sandboxTo(rec))
	}
	return connect.NewResponse(answer), nil
}

func (s sandboxService) Wait(ctx context.Context, r *connect.Request[brigv1.WaitRequest]) (*connect.Response[brigv1.WaitResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	exit, err := s.manager.Wait(ctx, rec)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.WaitResponse{Exit: exitTo(exit)}), nil
}

func (s sandboxService) Terminate(ctx context.Context, r *connect.Request[brigv1.TerminateRequest]) (*connect.Response[brigv1.TerminateResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	grace, err := durationOf("grace", r.Msg.GetGrace())
	if err != nil {
		return nil, err
	}
	exit, err := s.manager.Terminate(ctx, rec, grace)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.TerminateResponse{Exit: exitTo(exit)}), nil
}

func (s sandboxService) Remove(ctx context.Context, r *connect.Request[brigv1.RemoveRequest]) (*connect.Response[brigv1.RemoveResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	if err := s.manager.Remove(ctx, rec, r.Msg.GetForce()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.RemoveResponse{}), nil
}

// streamsOf are a program's two outputs, each from an offset on.
func streamsOf(stdout journal.Spec, stdoutOffset uint64, stderr journal.Spec, stderrOffset uint64) ([]output.Stream, error) {
	for _, offset := range []uint64{stdoutOffset, stderrOffset} {
		if offset > math.MaxInt64 {
			return nil, invalid("invalid offset %d: larger than any stream", offset)
		}
	}
	return []output.Stream{
		{Name: "stdout", Journal: stdout, Offset: int64(stdoutOffset)},
		{Name: "stderr", Journal: stderr, Offset: int64(stderrOffset)},
	}, nil
}

var channels = map[string]brigv1.Channel{
	"stdout": brigv1.Channel_CHANNEL_STDOUT,
	"stderr": brigv1.Channel_CHANNEL_STDERR,
}

func (s sandboxService) ReadOutput(ctx context.Context, r *connect.Request[brigv1.ReadOutputRequest], stream *connect.ServerStream[brigv1.ReadOutputResponse]) error {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return err
	}
	stdout, stderr := s.manager.Outputs(&rec)
	streams, err := streamsOf(stdout, r.Msg.GetStdoutOffset(), stderr, r.Msg.GetStderrOffset())
	if err != nil {
		return err
	}
	var ended <-chan struct{}
	if r.Msg.GetFollow() {
		ended = s.manager.Ended(rec.ID)
	}
	return output.Send(ctx, streams, ended, func(p output.Piece) error {
		return stream.Send(&brigv1.ReadOutputResponse{Channel: channels[p.Stream], Offset: uint64(p.Offset), Data: p.Data})
	})
}
