package server

import (
	"context"
	"math"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/sandboxes"
)

// inputOf reads a part of a stdin, a sandbox's or an exec's.
func inputOf(offset uint64, data []byte, eof bool) (sandboxes.Input, error) {
	if offset > math.MaxInt64-sandboxes.MaxInput {
		return sandboxes.Input{}, invalid("invalid offset %d: larger than any stream", offset)
	}
	return sandboxes.Input{Offset: int64(offset), Data: data, EOF: eof}, nil
}

func (s sandboxService) WriteInput(ctx context.Context, r *connect.Request[brigv1.WriteInputRequest]) (*connect.Response[brigv1.WriteInputResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	in, err := inputOf(r.Msg.GetOffset(), r.Msg.GetData(), r.Msg.GetEof())
	if err != nil {
		return nil, err
	}
	acknowledged, err := s.manager.WriteInput(ctx, rec, in)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.WriteInputResponse{Offset: uint64(acknowledged)}), nil
}

func (s sandboxService) ResizeTerminal(ctx context.Context, r *connect.Request[brigv1.ResizeTerminalRequest]) (*connect.Response[brigv1.ResizeTerminalResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	size, err := sizeOf(r.Msg.GetSize())
	if err != nil {
		return nil, err
	}
	if err := s.manager.ResizeTerminal(ctx, rec, size); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ResizeTerminalResponse{}), nil
}
