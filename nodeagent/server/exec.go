package server

import (
	"context"
	"math"
	"syscall"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/execs"
	"brig/nodeagent/output"
)

const (
	defaultOutput = 1 << 20
	maxOutput     = 16 << 20
	// maxStdin is the most that Run takes; Stream and Write take any amount.
	maxStdin = 4 << 20
)

type execService struct {
	*Server
	brigv1connect.UnimplementedExecHandler
}

func (s execService) Run(ctx context.Context, r *connect.Request[brigv1.ExecRunRequest]) (*connect.Response[brigv1.ExecRunResponse], error) {
	max := int(r.Msg.GetMaxOutput())
	if max == 0 {
		max = defaultOutput
	}
	if max > maxOutput {
		return nil, invalid("invalid max_output %d: at most %d; stream larger output", max, maxOutput)
	}
	if n := len(r.Msg.GetStdin()); n > maxStdin {
		return nil, invalid("stdin has %d bytes: at most %d; stream larger input", n, maxStdin)
	}
	spec, err := programOf(r.Msg.GetExec())
	if err != nil {
		return nil, err
	}
	rec, err := s.find(ctx, r.Msg.GetExec().GetSandbox())
	if err != nil {
		return nil, err
	}
	spec.ID, spec.Keep = r.Msg.GetExecId(), r.Msg.GetExecId() != ""
	room := execs.Room{Max: max, Take: func(n int) error { return chargeAhead(ctx, n) }}
	result, err := s.manager.RunExec(ctx, rec, spec, r.Msg.GetStdin(), room)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ExecRunResponse{
		Stdout: result.Stdout, Stderr: result.Stderr, Truncated: result.Truncated, Exit: exitTo(result.Exit),
	}), nil
}

func (s execService) Start(ctx context.Context, r *connect.Request[brigv1.ExecStart]) (*connect.Response[brigv1.ExecStartResponse], error) {
	spec, err := startOf(r.Msg, false)
	if err != nil {
		return nil, err
	}
	spec.Keep = true
	rec, err := s.find(ctx, r.Msg.GetExec().GetSandbox())
	if err != nil {
		return nil, err
	}
	x, err := s.manager.StartExec(ctx, rec, spec)
	if err != nil {
		return nil, err
	}
	defer x.Leave()
	return connect.NewResponse(&brigv1.ExecStartResponse{ExecId: x.ID()}), nil
}

// exec finds one, held until leave.
func (s execService) exec(ctx context.Context, sandbox, id string) (x *execs.Exec, leave func(), err error) {
	rec, err := s.find(ctx, sandbox)
	if err != nil {
		return nil, nil, err
	}
	if x, err = s.manager.FindExec(ctx, rec, id); err != nil {
		return nil, nil, err
	}
	return x, func() { leaveExec(ctx, x) }, nil
}

// leaveExec unless the call ends because brigd does: its client comes again.
func leaveExec(ctx context.Context, x *execs.Exec) {
	if !execs.IsEnding(ctx, nil) {
		x.Leave()
	}
}

func (s execService) Read(ctx context.Context, r *connect.Request[brigv1.ExecReadRequest], stream *connect.ServerStream[brigv1.ExecReadResponse]) error {
	from, err := offsetsOf(r.Msg.GetStdoutOffset(), r.Msg.GetStderrOffset())
	if err != nil {
		return err
	}
	x, leave, err := s.exec(ctx, r.Msg.GetSandbox(), r.Msg.GetExecId())
	if err != nil {
		return err
	}
	defer leave()
	over := r.Msg.GetFollow() || x.HasEnded() // looked at before reading: all is read then
	err = x.Read(ctx, from, r.Msg.GetFollow(), func(p output.Piece) error {
		return stream.Send(&brigv1.ExecReadResponse{Message: &brigv1.ExecReadResponse_Output{Output: outputTo(p)}})
	})
	if err != nil || !over {
		return err
	}
	exit, err := x.Wait(ctx)
	if err != nil {
		return err
	}
	return stream.Send(&brigv1.ExecReadResponse{Message: &brigv1.ExecReadResponse_Exit{Exit: exitTo(exit)}})
}

func (s execService) Write(ctx context.Context, r *connect.Request[brigv1.ExecWriteRequest]) (*connect.Response[brigv1.ExecWriteResponse], error) {
	offset, err := offsetOf(r.Msg.GetOffset())
	if err != nil {
		return nil, err
	}
	x, leave, err := s.exec(ctx, r.Msg.GetSandbox(), r.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	defer leave()
	acknowledged, err := x.Write(ctx, offset, r.Msg.GetData(), r.Msg.GetEof())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ExecWriteResponse{Offset: uint64(acknowledged)}), nil
}

func (s execService) Wait(ctx context.Context, r *connect.Request[brigv1.ExecWaitRequest]) (*connect.Response[brigv1.ExecWaitResponse], error) {
	x, leave, err := s.exec(ctx, r.Msg.GetSandbox(), r.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	defer leave()
	exit, err := x.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ExecWaitResponse{Exit: exitTo(exit)}), nil
}

func (s execService) Signal(ctx context.Context, r *connect.Request[brigv1.ExecSignalRequest]) (*connect.Response[brigv1.ExecSignalResponse], error) {
	x, leave, err := s.exec(ctx, r.Msg.GetSandbox(), r.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := x.Signal(ctx, syscall.Signal(r.Msg.GetSignal())); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ExecSignalResponse{}), nil
}

func (s execService) Resize(ctx context.Context, r *connect.Request[brigv1.ExecResizeRequest]) (*connect.Response[brigv1.ExecResizeResponse], error) {
	size, err := windowOf(r.Msg.GetSize())
	if err != nil {
		return nil, err
	}
	x, leave, err := s.exec(ctx, r.Msg.GetSandbox(), r.Msg.GetExecId())
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := x.Resize(ctx, size); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ExecResizeResponse{}), nil
}

func offsetOf(n uint64) (int64, error) {
	if n > math.MaxInt64 {
		return 0, invalid("invalid offset %d: larger than any stream", n)
	}
	return int64(n), nil
}
