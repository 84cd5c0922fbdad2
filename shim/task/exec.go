package task

import (
	"context"
	"fmt"
	"time"

	"brig/shim/bundle"
	"brig/shim/runsc"
	"brig/shim/stdio"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// execTime bounds how long a sentry may take to load a program.
const execTime = time.Minute

// AddExec records a process to be started in the sandbox. Whether it has a terminal is
// for streams to say: containerd's clients leave the spec as that of the container.
func (s *Shim) AddExec(id, execID string, spec *specs.Process, streams stdio.Config) error {
	t, err := s.get(id)
	if err != nil {
		return err
	}
	program := *spec
	program.Terminal, program.Env = streams.Terminal, bundle.WithSecrets(spec.Env, t.secrets)
	p := newProcess(execID, streams)
	p.size = sizeOf(&program)
	if p.args, err = runsc.NewExecArgs(t.id, &program, t.spec.Process.Capabilities); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := t.add(p); err != nil {
		return err
	}
	t.emit(EventExecAdded{ID: id, ExecID: execID})
	return nil
}

func (t *Task) add(p *process) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return fmt.Errorf("the sandbox has ended: %w", errdefs.ErrFailedPrecondition)
	}
	if t.execs[p.execID] != nil {
		return fmt.Errorf("exec %s: %w", p.execID, errdefs.ErrAlreadyExists)
	}
	t.execs[p.execID] = p
	return nil
}

// StartExec starts a recorded process. A process whose start fails has ended.
func (s *Shim) StartExec(ctx context.Context, id, execID string) (pid int, err error) {
	t, p, err := s.find(id, execID)
	if err != nil {
		return 0, err
	}
	if err := t.beginExec(p); err != nil {
		return 0, err
	}
	if err := t.exec(ctx, p); err != nil {
		p.stop(Exit{Code: failedStart, At: time.Now()})
		close(p.exited)
		t.running.Done()
		return 0, fmt.Errorf("start exec %s: %w", execID, err)
	}
	t.emit(EventExecStarted{ID: id, ExecID: execID, PID: t.sandbox.pid()})
	go t.watchExec(p)
	return t.sandbox.pid(), nil
}

// beginExec counts p among those whose end must be told before the program's.
func (t *Task) beginExec(p *process) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state, _ := t.init.look(); state != Running || t.over {
		return fmt.Errorf("exec in a sandbox that is not running: %w", errdefs.ErrFailedPrecondition)
	}
	if err := p.claim(); err != nil {
		return err
	}
	t.running.Add(1)
	return nil
}

func (t *Task) exec(ctx context.Context, p *process) error {
	opening, opened := t.whileItRuns(ctx)
	io, err := stdio.Open(opening, p.streams)
	opened()
	if err != nil {
		return err
	}
	if err := p.fit(io); err != nil {
		io.Close()
		return err
	}
	// A caller that goes away leaves no process behind that nobody knows.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), execTime)
	defer cancel()
	pid, line, err := t.sandbox.control.ExecLine(ctx, p.args, io.Files())
	if err != nil {
		io.Close()
		return err
	}
	p.line = line
	io.Started()
	log := t.sandbox.shim.opts.Log.With("sandbox", t.request.ID, "exec", p.execID)
	p.started(pid, io)
	if err := p.fit(io); err != nil { // a resize may have come since
		log.Warn("a terminal keeps its size", "err", err)
	}
	if err := io.Feed(t.interrupt(p)); err != nil {
		log.Warn("an exec has no input", "err", err)
		io.CloseStdin()
	}
	return nil
}

// whileItRuns is ctx until the program ends, and not for ever: streams wait for their
// readers, who may be gone, and the program's end is told after that of a start.
func (t *Task) whileItRuns(ctx context.Context) (_ context.Context, cancel func()) {
	ctx, cancelTimeout := context.WithTimeoutCause(ctx, execTime, fmt.Errorf("nothing happens within %v: %w", execTime, errdefs.ErrUnavailable))
	ctx, end := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-t.ended:
		case <-t.sandbox.gone:
		case <-ctx.Done():
		}
		end(fmt.Errorf("the program has ended: %w", errdefs.ErrFailedPrecondition))
	}()
	return ctx, cancelTimeout
}

func (t *Task) watchExec(p *process) {
	defer t.running.Done()
	exit := Exit{Code: t.waitExec(p), At: time.Now()}
	t.drain(p)
	p.stop(exit)
	t.emit(EventExited{ID: t.request.ID, ExecID: p.execID, PID: t.sandbox.pid(), Exit: exit})
	close(p.exited)
}

func (t *Task) waitExec(p *process) uint32 {
	line := p.line
	code, err := t.askForEnd(func() (unix.WaitStatus, error) {
		if line == nil {
			return t.sandbox.control.WaitPID(context.Background(), t.id, p.sandboxPID())
		}
		defer func() { line.Close(); line = nil }()
		return line.WaitPID(context.Background(), t.id, p.sandboxPID())
	})
	if err != nil {
		t.sandbox.shim.opts.Log.Error("the exit status of an exec is lost", "sandbox", t.request.ID, "exec", p.execID, "err", err)
	}
	return code
}
