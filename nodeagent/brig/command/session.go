package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"brig/nodeagent/brig/client"
	"brig/nodeagent/brig/terminal"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

const (
	// comeBack is how long a session waits for a brigd that went away.
	comeBack = 30 * time.Second
	// comeBackLook is how often it looks.
	comeBackLook = 200 * time.Millisecond
)

// session is one exec, followed over as many streams as it takes: where one breaks because
// brigd is restarted, the next goes on at the offsets that this one reached. The program
// runs on meanwhile. brigd ends it if its client does not come back, as it does when brig
// is killed, unless the exec has an id.
type session struct {
	exec    brigv1connect.ExecClient
	sandbox string
	id      string // of the exec, once it is known
	offsets [3]uint64
	stdin   *outbox // nil: none is sent

	mu      sync.Mutex // guards what follows
	stream  *stream
	changed chan struct{} // closed when there is another stream
}

// stream is one connection. Sends come from several goroutines and take turns.
type stream struct {
	*connect.BidiStreamForClient[brigv1.ExecStreamRequest, brigv1.ExecStreamResponse]
	stdin   uint64 // where it goes on
	sending sync.Mutex
}

func (s *stream) send(m *brigv1.ExecStreamRequest) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.Send(m)
}

func newSession(exec brigv1connect.ExecClient, sandbox string, in io.Reader) *session {
	s := &session{exec: exec, sandbox: sandbox, changed: make(chan struct{})}
	if in != nil {
		s.stdin = newOutbox()
	}
	return s
}

// connect opens a stream with its first message, a start or an attach, and returns once
// the program runs. Stdin goes on where brigd says.
func (s *session) connect(ctx context.Context, first *brigv1.ExecStreamRequest) error {
	next := &stream{BidiStreamForClient: s.exec.Stream(ctx)}
	if err := next.send(first); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	m, err := next.Receive()
	if err != nil {
		return ended(err)
	}
	if m.GetStarted() == nil {
		return fmt.Errorf("brigd answered an exec with %T; are brig and brigd of one version?", m.GetMessage())
	}
	s.id, next.stdin = m.GetStarted().GetExecId(), m.GetStarted().GetStdinOffset()
	if s.stdin != nil {
		s.stdin.acknowledge(next.stdin)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = next
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *session) now() (now *stream, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream, s.changed
}

// tell brigd something, over the next stream if this one breaks.
func (s *session) tell(ctx context.Context, m *brigv1.ExecStreamRequest) {
	for {
		now, changed := s.now()
		if now.send(m) == nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) resize(ctx context.Context, size terminal.Size) {
	s.tell(ctx, &brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Resize{Resize: window(size)}})
}

// forwardSignals passes on what this process gets. SIGKILL cannot be caught: brigd ends
// the program when its client goes away.
func (s *session) forwardSignals(ctx context.Context) {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(ch)
	for {
		select {
		case <-ctx.Done():
			return
		case got := <-ch:
			s.tell(ctx, &brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Signal{Signal: int32(got.(unix.Signal))}})
		}
	}
}

// follow copies output until the program has ended, and returns how.
func (s *session) follow(ctx context.Context, out, errs io.Writer) (*brigv1.Exit, error) {
	for {
		exit, err := s.followStream(ctx, out, errs)
		if err == nil || !broke(err) {
			return exit, err
		}
		if err := s.reconnect(ctx); err != nil {
			return nil, err
		}
	}
}

// reconnect attaches anew, as soon as a brigd answers.
func (s *session) reconnect(ctx context.Context) error {
	waiting, cancel := context.WithTimeoutCause(ctx, comeBack, fmt.Errorf("brigd went away and did not come back within %v", comeBack))
	defer cancel()
	attach := &brigv1.ExecAttach{
		Sandbox: s.sandbox, ExecId: s.id,
		StdoutOffset: s.offsets[brigv1.Channel_CHANNEL_STDOUT], StderrOffset: s.offsets[brigv1.Channel_CHANNEL_STDERR],
	}
	for {
		err := s.connect(ctx, &brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Attach{Attach: attach}})
		if err == nil || !broke(err) {
			return err
		}
		select {
		case <-time.After(comeBackLook):
		case <-waiting.Done():
			return context.Cause(waiting)
		}
	}
}

// broke tells that brigd is not there, or is going. A stream that breaks has any code, but
// none that brigd gave it.
func broke(err error) bool {
	var dial *client.DialError
	var remote *connect.Error
	switch {
	case errors.As(err, &dial):
		return client.Lost(err)
	case connect.IsWireError(err):
		return connect.CodeOf(err) == connect.CodeUnavailable
	}
	return errors.As(err, &remote) && !errors.Is(err, context.Canceled)
}

// followStream copies the output of one stream until it ends.
func (s *session) followStream(ctx context.Context, out, errs io.Writer) (*brigv1.Exit, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	now, _ := s.now()
	if s.stdin != nil {
		// What cannot be sent, Receive tells why.
		go func() { _ = s.stdin.send(ctx, now.stdin, now.send) }()
	}
	for {
		m, err := now.Receive()
		if err != nil {
			return nil, ended(err)
		}
		switch m := m.GetMessage().(type) {
		case *brigv1.ExecStreamResponse_Output:
			to := out
			if m.Output.GetChannel() == brigv1.Channel_CHANNEL_STDERR {
				to = errs
			}
			if _, err := to.Write(m.Output.GetData()); err != nil {
				return nil, err
			}
			if gone := m.Output.GetOffset() - s.offsets[m.Output.GetChannel()]; gone > 0 {
				fmt.Fprintf(errs, "brig: %d bytes of output are gone: the node keeps a bounded amount\n", gone)
			}
			s.offsets[m.Output.GetChannel()] = m.Output.GetOffset() + uint64(len(m.Output.GetData()))
		case *brigv1.ExecStreamResponse_StdinAcknowledged:
			if s.stdin != nil {
				s.stdin.acknowledge(m.StdinAcknowledged)
			}
		case *brigv1.ExecStreamResponse_Exit:
			return m.Exit, nil
		}
	}
}

// ended makes an error of a stream that closed before the exit was told.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("brigd closed the stream before the program's status was known; see brigd's log")
	}
	return err
}
