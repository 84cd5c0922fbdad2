package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/engine"
	"brig/nodeagent/program"
	"brig/nodeagent/sandboxes"
)

const (
	defaultOutput = 1 << 20
	maxOutput     = 16 << 20
	// releaseTimeout is how long the traces of an exec may take to be removed.
	releaseTimeout = 30 * time.Second
)

type execService struct {
	*Server
	brigv1connect.UnimplementedExecHandler
}

// begin runs the program that spec names.
func (s execService) begin(ctx context.Context, spec *brigv1.ExecSpec, tty, stdin bool) (*engine.Process, time.Duration, error) {
	if spec == nil {
		return nil, 0, invalid("exec is missing: say what to run, and where")
	}
	rec, err := s.find(ctx, spec.GetSandbox())
	if err != nil {
		return nil, 0, err
	}
	timeout, err := durationOf("timeout", spec.GetTimeout())
	if err != nil {
		return nil, 0, err
	}
	p, err := s.manager.Exec(ctx, rec, sandboxes.Program{
		Argv: spec.GetArgv(), Env: spec.GetEnv(), Workdir: spec.GetWorkdir(), TTY: tty, Stdin: stdin,
	})
	if err == nil {
		context.AfterFunc(ctx, s.manager.Activity(rec.ID).Begin()) // the call's end is the exec's
	}
	return p, timeout, err
}

func (s execService) release(ctx context.Context, p *engine.Process) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := p.Release(ctx); err != nil {
		s.log.Warn("remove an exec", "err", err)
	}
}

func (s execService) Run(ctx context.Context, r *connect.Request[brigv1.ExecRunRequest]) (*connect.Response[brigv1.ExecRunResponse], error) {
	max := int(r.Msg.GetMaxOutput())
	if max == 0 {
		max = defaultOutput
	}
	if max > maxOutput {
		return nil, invalid("invalid max_output %d: at most %d; stream larger output", max, maxOutput)
	}
	p, timeout, err := s.begin(ctx, r.Msg.GetExec(), false, false)
	if err != nil {
		return nil, err
	}
	defer s.release(ctx, p)
	stdout, stderr := program.NewBuffer(max), program.NewBuffer(max)
	exit, err := program.Run(ctx, p, timeout, program.Stream{From: p.Stdout, To: stdout}, program.Stream{From: p.Stderr, To: stderr})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.ExecRunResponse{
		Stdout:    stdout.Bytes(),
		Stderr:    stderr.Bytes(),
		Truncated: stdout.Truncated() || stderr.Truncated(),
		Exit:      exitTo(exit),
	}), nil
}

type execStream = connect.BidiStream[brigv1.ExecStreamRequest, brigv1.ExecStreamResponse]

func (s execService) Stream(ctx context.Context, stream *execStream) error {
	first, err := stream.Receive()
	if errors.Is(err, io.EOF) {
		return invalid("the stream is empty: begin with start")
	}
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return invalid("the first message is not start")
	}
	p, timeout, err := s.begin(ctx, start.GetExec(), start.GetTty(), start.GetStdin())
	if err != nil {
		return err
	}
	defer s.release(ctx, p)
	out := &sender{stream: stream}
	if err := out.send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Started{Started: &brigv1.ExecStarted{}}}); err != nil {
		return err
	}
	if size := start.GetSize(); start.GetTty() && size != nil {
		if err := p.Resize(ctx, size.GetColumns(), size.GetRows()); err != nil {
			return fmt.Errorf("size the terminal: %w", err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(s.listen(ctx, stream, p)) }()
	streams := []program.Stream{{From: p.Stdout, To: out.channel(brigv1.Channel_CHANNEL_STDOUT)}}
	if p.Stderr != nil {
		streams = append(streams, program.Stream{From: p.Stderr, To: out.channel(brigv1.Channel_CHANNEL_STDERR)})
	}
	exit, err := program.Run(ctx, p, timeout, streams...)
	if err != nil {
		return err
	}
	return out.send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Exit{Exit: exitTo(exit)}})
}

// listen does what the client says until it has gone or says nonsense; its error
// ends the program. A client that only has nothing more to say ends its stdin.
func (s execService) listen(ctx context.Context, stream *execStream, p *engine.Process) error {
	for {
		m, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			if err := p.CloseStdin(ctx); err != nil {
				s.log.Debug("close an exec's stdin", "err", err)
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if err := obey(ctx, p, m); err != nil {
			return err
		}
	}
}

func obey(ctx context.Context, p *engine.Process, m *brigv1.ExecStreamRequest) error {
	switch m := m.GetMessage().(type) {
	case *brigv1.ExecStreamRequest_Stdin:
		if p.Stdin == nil {
			return invalid("stdin was sent, but start did not ask for it")
		}
		_, _ = p.Stdin.Write(m.Stdin.GetData()) // a program may close its stdin and live on
		if m.Stdin.GetEof() {
			return p.CloseStdin(ctx)
		}
	case *brigv1.ExecStreamRequest_Resize:
		return ignoreEnded(p.Resize(ctx, m.Resize.GetColumns(), m.Resize.GetRows()))
	case *brigv1.ExecStreamRequest_Signal:
		if m.Signal < 1 || m.Signal > 64 {
			return invalid("invalid signal %d: want 1 to 64", m.Signal)
		}
		return ignoreEnded(p.Kill(ctx, syscall.Signal(m.Signal)))
	case *brigv1.ExecStreamRequest_Start:
		return invalid("start was sent twice")
	default:
		return invalid("a message without content was sent")
	}
	return nil
}

// sender lets both outputs share the stream.
type sender struct {
	mu     sync.Mutex // one message at a time
	stream *execStream
}

func (s *sender) send(m *brigv1.ExecStreamResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Send(m)
}

func (s *sender) channel(c brigv1.Channel) io.Writer {
	var offset uint64
	return writer(func(p []byte) (int, error) {
		output := &brigv1.ExecOutput{Channel: c, Offset: offset, Data: p}
		if err := s.send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Output{Output: output}}); err != nil {
			return 0, err
		}
		offset += uint64(len(p))
		return len(p), nil
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
