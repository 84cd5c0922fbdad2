package files

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"brig/nodeagent/engine"
	"brig/nodeagent/execs"
	"brig/nodeagent/output"
	"brig/nodeagent/record"
)

// Execs makes a Start of what runs programs in sandboxes.
func Execs(start func(context.Context, record.Record, execs.Spec) (*execs.Exec, error)) Start {
	return func(ctx context.Context, rec record.Record, argument string, stdin bool) (*Program, error) {
		// Blocking: nothing of an answer may be missing.
		x, err := start(ctx, rec, execs.Spec{Argv: []string{engine.Guest("brig-files"), argument}, Stdin: stdin, Block: true})
		if err != nil {
			return nil, err
		}
		return attach(context.WithoutCancel(ctx), x, stdin), nil
	}
}

// attach connects streams to an exec, which end by Close, or all by Release.
func attach(ctx context.Context, x *execs.Exec, stdin bool) *Program {
	ctx, cancel := context.WithCancel(ctx)
	stdout, toStdout := io.Pipe()
	stderr, toStderr := io.Pipe()
	run := &execution{x: x, cancel: cancel, done: make(chan struct{})}
	to := map[string]io.Writer{"stdout": toStdout, "stderr": toStderr}
	go func() {
		defer close(run.done)
		err := x.Read(ctx, execs.Offsets{}, true, func(p output.Piece) error {
			_, err := to[p.Stream].Write(p.Data)
			return err
		})
		_ = toStdout.CloseWithError(err) // nil: io.EOF
		_ = toStderr.CloseWithError(err)
	}()
	p := &Program{Stdout: stdout, Stderr: stderr, Control: run}
	if stdin {
		run.stdin = &stream{x: x}
		run.stdin.closed, run.stdin.stop = context.WithCancel(ctx)
		p.Stdin = run.stdin
	}
	return p
}

// execution controls an exec.
type execution struct {
	x      *execs.Exec
	cancel context.CancelFunc
	done   chan struct{} // closed when its output is not read any more
	stdin  *stream
	ending bool // brigd ends: brig-files is left to clean up by itself
}

// CloseStdin is that of Control.
func (r *execution) CloseStdin(ctx context.Context) error {
	err := r.stdin.end(ctx)
	r.ending = errors.Is(err, execs.ErrEnding)
	return err
}

// Wait is that of Control.
func (r *execution) Wait(ctx context.Context) (status int, at time.Time, err error) {
	exit, err := r.x.Wait(ctx)
	return exit.Code, exit.At, err
}

// Release is that of Control. The registry ends and removes an exec that nobody holds.
func (r *execution) Release(context.Context) error {
	r.cancel()
	<-r.done
	if !r.ending {
		r.x.Leave()
	}
	return nil
}

// stream is an exec's stdin.
type stream struct {
	x *execs.Exec
	// closed is done when nothing is written any more. An io.Writer is given no context.
	closed context.Context
	stop   context.CancelFunc

	mu     sync.Mutex // guards what follows, and is held while something is written
	offset int64
}

// Write returns once p is kept for brig-files.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.offset
	offset, err := s.x.Write(s.closed, before, p, false)
	if err != nil {
		return 0, err
	}
	s.offset = offset
	return int(offset - before), nil
}

// Close ends writes; what was written stays.
func (s *stream) Close() error {
	s.stop()
	return nil
}

// end tells brig-files that nothing comes any more.
func (s *stream) end(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.x.Write(ctx, s.offset, nil, true)
	return err
}
