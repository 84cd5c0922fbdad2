package command_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"connectrpc.com/connect"
)

type fakeExec struct {
	brigv1connect.UnimplementedExecHandler
	node *fakeNode
}

func (f fakeExec) Run(_ context.Context, req *connect.Request[brigv1.ExecRunRequest]) (*connect.Response[brigv1.ExecRunResponse], error) {
	if _, err := f.node.find(req.Msg.Exec.Sandbox); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ExecRunResponse{
		Stdout: []byte(strings.Join(req.Msg.Exec.Argv, " ") + "\n"),
		Exit:   &brigv1.Exit{Reason: brigv1.Reason_REASON_EXITED, At: epoch},
	}), nil
}

// Stream knows three programs: "say OUT ERR CODE"; "cat", which copies stdin
// and ends with 0; and "await", which writes what happens to it, one word a
// line, and ends at SIGTERM (with 143) or at a q on stdin (with 7).
func (f fakeExec) Stream(ctx context.Context, stream *connect.BidiStream[brigv1.ExecStreamRequest, brigv1.ExecStreamResponse]) error {
	m, err := stream.Receive()
	if err != nil {
		return err
	}
	start := m.GetStart()
	if _, err := f.node.find(start.GetExec().GetSandbox()); err != nil {
		return err
	}
	f.node.mu.Lock()
	f.node.execs = append(f.node.execs, start)
	f.node.mu.Unlock()
	_ = stream.Send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Started{Started: &brigv1.ExecStarted{}}})
	output := func(c brigv1.Channel, data []byte) {
		_ = stream.Send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Output{
			Output: &brigv1.ExecOutput{Channel: c, Data: data},
		}})
	}
	stdout := func(data []byte) { output(brigv1.Channel_CHANNEL_STDOUT, data) }
	exit := func(code int32) error {
		return stream.Send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Exit{
			Exit: &brigv1.Exit{Code: code, Reason: brigv1.Reason_REASON_EXITED, At: epoch},
		}})
	}
	argv := start.Exec.Argv
	if argv[0] == "say" {
		stdout([]byte(argv[1]))
		output(brigv1.Channel_CHANNEL_STDERR, []byte(argv[2]))
		return exit(number(argv[3]))
	}
	if argv[0] == "await" {
		stdout([]byte(fmt.Sprintf("tty %v %dx%d\n", start.Tty, start.Size.GetColumns(), start.Size.GetRows())))
	}
	for {
		m, err := stream.Receive()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return exit(0)
			}
			return err
		}
		switch m := m.Message.(type) {
		case *brigv1.ExecStreamRequest_Stdin:
			if argv[0] == "await" && strings.Contains(string(m.Stdin.Data), "q") {
				return exit(7)
			}
			stdout(m.Stdin.Data)
			if m.Stdin.Eof {
				return exit(0)
			}
		case *brigv1.ExecStreamRequest_Resize:
			stdout([]byte(fmt.Sprintf("resize %dx%d\n", m.Resize.Columns, m.Resize.Rows)))
		case *brigv1.ExecStreamRequest_Signal:
			stdout([]byte(fmt.Sprintf("signal %d\n", m.Signal)))
			if m.Signal == 15 {
				return exit(143)
			}
		}
	}
}
