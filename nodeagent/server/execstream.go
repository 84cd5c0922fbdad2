package server

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/execs"
	"brig/nodeagent/output"
)

type execStream = connect.BidiStream[brigv1.ExecStreamRequest, brigv1.ExecStreamResponse]

// Stream is one client's conversation with an exec.
func (s execService) Stream(ctx context.Context, stream *execStream) error {
	first, err := stream.Receive()
	if errors.Is(err, io.EOF) {
		return invalid("the stream is empty: begin with start or attach")
	}
	if err != nil {
		return err
	}
	c := &conversation{stream: stream}
	if err := s.open(ctx, c, first); err != nil {
		return err
	}
	defer leaveExec(ctx, c.exec)
	return c.run(ctx)
}

// open the exec that the first message asks for.
func (s execService) open(ctx context.Context, c *conversation, first *brigv1.ExecStreamRequest) error {
	switch m := first.GetMessage().(type) {
	case *brigv1.ExecStreamRequest_Start:
		spec, err := startOf(m.Start, true)
		if err != nil {
			return err
		}
		rec, err := s.find(ctx, m.Start.GetExec().GetSandbox())
		if err != nil {
			return err
		}
		spec.Keep = spec.ID != ""
		c.endsStdin = spec.Stdin
		c.exec, err = s.manager.StartExec(ctx, rec, spec)
		return err
	case *brigv1.ExecStreamRequest_Attach:
		var err error
		if c.from, err = offsetsOf(m.Attach.GetStdoutOffset(), m.Attach.GetStderrOffset()); err != nil {
			return err
		}
		rec, err := s.find(ctx, m.Attach.GetSandbox())
		if err != nil {
			return err
		}
		c.exec, err = s.manager.FindExec(ctx, rec, m.Attach.GetExecId())
		return err
	}
	return invalid("the first message is neither start nor attach")
}

// conversation of one stream. Output, acknowledgements and the exit share it.
type conversation struct {
	exec   *execs.Exec
	from   execs.Offsets
	stream *execStream
	// endsStdin: a client that has nothing more to say ends it, without saying so.
	endsStdin bool

	sending sync.Mutex // one message at a time; guards what follows
	over    bool
}

func (c *conversation) send(m *brigv1.ExecStreamResponse) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.over {
		return errOver
	}
	return c.stream.Send(m)
}

// errOver is what a send is that comes after the call has returned, when there is nothing
// to write to any more.
var errOver = errors.New("the conversation is over")

// end it: whoever sends later gets an error.
func (c *conversation) end() {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.over = true
}

func (c *conversation) run(ctx context.Context) error {
	defer c.end()
	acknowledged, err := c.exec.Acknowledged()
	if err != nil {
		return err
	}
	started := &brigv1.ExecStarted{ExecId: c.exec.ID(), StdinOffset: uint64(acknowledged)}
	if err := c.send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Started{Started: started}}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	end := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	in := newInbox(c)
	go func() { end(in.pass(ctx)) }()
	go func() { end(c.listen(ctx, in)) }()
	err = c.exec.Read(ctx, c.from, true, func(p output.Piece) error {
		return c.send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Output{Output: outputTo(p)}})
	})
	if err != nil {
		return err
	}
	exit, err := c.exec.Wait(ctx)
	if err != nil {
		return err
	}
	return c.send(&brigv1.ExecStreamResponse{Message: &brigv1.ExecStreamResponse_Exit{Exit: exitTo(exit)}})
}

// listen does what the client says until it has gone or says nonsense; its error ends the
// conversation. A client that only has nothing more to say is no error.
func (c *conversation) listen(ctx context.Context, in *inbox) error {
	defer in.close()
	for {
		m, err := c.stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.obey(ctx, m, in); err != nil {
			return err
		}
	}
}

func (c *conversation) obey(ctx context.Context, m *brigv1.ExecStreamRequest, in *inbox) error {
	switch m := m.GetMessage().(type) {
	case *brigv1.ExecStreamRequest_Stdin:
		return in.put(ctx, m.Stdin)
	case *brigv1.ExecStreamRequest_Resize:
		size, err := windowOf(m.Resize)
		if err != nil {
			return err
		}
		return c.exec.Resize(ctx, size)
	case *brigv1.ExecStreamRequest_Signal:
		return c.exec.Signal(ctx, syscall.Signal(m.Signal))
	case *brigv1.ExecStreamRequest_Start, *brigv1.ExecStreamRequest_Attach:
		return invalid("start and attach are for the first message")
	default:
		return invalid("a message without content was sent")
	}
}
