package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"brig/nodeagent/brig/terminal"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// session is one exec stream. Sends come from several goroutines and take
// turns; a send that fails is dropped, because the receiving side then tells
// why the stream ended.
type session struct {
	stream *connect.BidiStreamForClient[brigv1.ExecStreamRequest, brigv1.ExecStreamResponse]

	mu sync.Mutex // held while sending
}

func (s *session) send(m *brigv1.ExecStreamRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Send(m)
}

// begin starts the program and returns once it runs.
func (s *session) begin(start *brigv1.ExecStart) error {
	err := s.send(&brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Start{Start: start}})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	m, err := s.stream.Receive()
	if err != nil {
		return ended(err)
	}
	if m.GetStarted() == nil {
		return fmt.Errorf("brigd answered an exec with %T; are brig and brigd of one version?", m.GetMessage())
	}
	return nil
}

func (s *session) resize(size terminal.Size) {
	_ = s.send(&brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Resize{Resize: window(size)}})
}

// forwardSignals passes on what this process gets. SIGKILL cannot be caught:
// brigd ends the program when its client goes away.
func (s *session) forwardSignals(ctx context.Context) {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(ch)
	for {
		select {
		case <-ctx.Done():
			return
		case got := <-ch:
			n := int32(got.(unix.Signal))
			_ = s.send(&brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Signal{Signal: n}})
		}
	}
}

// forwardStdin sends in until it ends. It may outlive the program: a read of a
// terminal cannot be interrupted, and the process ends soon after.
func (s *session) forwardStdin(in io.Reader) {
	buf := make([]byte, 32<<10)
	var offset uint64
	for {
		n, err := in.Read(buf)
		if n > 0 {
			// Send marshals at once: buf may be used again.
			if s.send(&brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Stdin{Stdin: &brigv1.ExecInput{Offset: offset, Data: buf[:n]}}}) != nil {
				return
			}
			offset += uint64(n)
		}
		if err != nil {
			_ = s.send(&brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Stdin{Stdin: &brigv1.ExecInput{Offset: offset, Eof: true}}})
			return
		}
	}
}

// copyOutput returns how the program ended, after its last byte.
func (s *session) copyOutput(out, errs io.Writer) (*brigv1.Exit, error) {
	for {
		m, err := s.stream.Receive()
		if err != nil {
			return nil, ended(err)
		}
		switch m := m.GetMessage().(type) {
		case *brigv1.ExecStreamResponse_Output:
			to := out
			if m.Output.GetChannel() == brigv1.Channel_CHANNEL_STDERR {
				to = errs
			}
			_, err = to.Write(m.Output.GetData())
		case *brigv1.ExecStreamResponse_Exit:
			return m.Exit, nil
		}
		if err != nil {
			return nil, err
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
