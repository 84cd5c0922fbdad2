package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/fifo"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Program is what to run beside a sandbox's own.
type Program struct {
	Sandbox string
	ID      string // unique in the sandbox
	Argv    []string
	Env     map[string]string
	Workdir string // empty: the sandbox's
	TTY     bool
	Stdin   bool
}

// Process is a program that runs in a sandbox. Its streams are FIFOs that brigd and
// the shim both open, so they break, and the program's writes with them, when either
// is gone. Release must be called.
type Process struct {
	e       *Engine
	program Program
	dir     string
	cancel  context.CancelFunc

	Stdin          io.WriteCloser // nil unless asked for
	Stdout, Stderr io.ReadCloser  // Stderr is nil with a terminal
}

// Exec runs p.
func (e *Engine) Exec(ctx context.Context, p Program) (*Process, error) {
	spec, err := e.process(e.in(ctx), p)
	if err != nil {
		return nil, err
	}
	ps, err := e.open(p)
	if err != nil {
		return nil, err
	}
	if err := ps.start(e.in(ctx), spec); err != nil {
		return nil, errors.Join(err, ps.Release(context.WithoutCancel(ctx)))
	}
	return ps, nil
}

// process copies of the sandbox's own program what p does not say.
func (e *Engine) process(ctx context.Context, p Program) (*specs.Process, error) {
	c, err := e.client.ContainerService().Get(ctx, p.Sandbox)
	if err != nil {
		return nil, fmt.Errorf("look for container: %w", native(err))
	}
	var spec specs.Spec
	if err := typeurl.UnmarshalTo(c.Spec, &spec); err != nil {
		return nil, fmt.Errorf("read the container's spec: %w", err)
	}
	process := *spec.Process
	process.Args, process.Terminal, process.CommandLine, process.ConsoleSize = p.Argv, p.TTY, "", nil
	process.Env = merge(process.Env, environment(p.Env))
	if p.TTY {
		process.Env = merge([]string{"TERM=xterm"}, process.Env)
	}
	if p.Workdir != "" {
		process.Cwd = p.Workdir
	}
	return &process, nil
}

func (e *Engine) open(p Program) (*Process, error) {
	ctx, cancel := context.WithCancel(context.Background())
	ps := &Process{e: e, program: p, dir: filepath.Join(e.execDir, p.Sandbox, p.ID), cancel: cancel}
	if err := os.MkdirAll(ps.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the streams of an exec: %w", err)
	}
	var errs [3]error
	if p.Stdin {
		ps.Stdin, errs[0] = fifo.OpenFifo(ctx, ps.path("stdin"), syscall.O_WRONLY|syscall.O_CREAT|syscall.O_NONBLOCK, 0o600)
	}
	ps.Stdout, errs[1] = fifo.OpenFifo(ctx, ps.path("stdout"), syscall.O_RDONLY|syscall.O_CREAT|syscall.O_NONBLOCK, 0o600)
	if !p.TTY {
		ps.Stderr, errs[2] = fifo.OpenFifo(ctx, ps.path("stderr"), syscall.O_RDONLY|syscall.O_CREAT|syscall.O_NONBLOCK, 0o600)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(fmt.Errorf("make the streams of an exec: %w", err), ps.close())
	}
	return ps, nil
}

func (ps *Process) path(name string) string { return filepath.Join(ps.dir, name) }

func (ps *Process) start(ctx context.Context, spec *specs.Process) error {
	data, err := typeurl.MarshalAnyToProto(spec)
	if err != nil {
		return fmt.Errorf("encode a process: %w", err)
	}
	r := &tasks.ExecProcessRequest{
		ContainerID: ps.program.Sandbox,
		ExecID:      ps.program.ID,
		Terminal:    ps.program.TTY,
		Stdout:      ps.path("stdout"),
		Spec:        data,
	}
	if ps.program.Stdin {
		r.Stdin = ps.path("stdin")
	}
	if !ps.program.TTY {
		r.Stderr = ps.path("stderr")
	}
	if _, err := ps.e.client.TaskService().Exec(ctx, r); err != nil {
		return fmt.Errorf("exec: %w", native(err))
	}
	if _, err := ps.e.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: r.ContainerID, ExecID: r.ExecID}); err != nil {
		return programFault(spec.Args, native(err))
	}
	return nil
}

// Wait returns the program's status once it has ended.
func (ps *Process) Wait(ctx context.Context) (status int, at time.Time, err error) {
	r, err := ps.e.client.TaskService().Wait(ps.e.in(ctx), &tasks.WaitRequest{ContainerID: ps.program.Sandbox, ExecID: ps.program.ID})
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("wait for exec %s: %w", ps.program.ID, native(err))
	}
	return int(r.ExitStatus), endedAt(r.ExitedAt.AsTime()), nil
}

// Kill sends a signal to the program.
func (ps *Process) Kill(ctx context.Context, signal syscall.Signal) error {
	_, err := ps.e.client.TaskService().Kill(ps.e.in(ctx), &tasks.KillRequest{
		ContainerID: ps.program.Sandbox, ExecID: ps.program.ID, Signal: uint32(signal),
	})
	if err != nil {
		return fmt.Errorf("send signal %d to exec %s: %w", signal, ps.program.ID, native(err))
	}
	return nil
}

// Resize tells the program the size of its terminal.
func (ps *Process) Resize(ctx context.Context, columns, rows uint32) error {
	_, err := ps.e.client.TaskService().ResizePty(ps.e.in(ctx), &tasks.ResizePtyRequest{
		ContainerID: ps.program.Sandbox, ExecID: ps.program.ID, Width: columns, Height: rows,
	})
	return native(err)
}

// CloseStdin ends the program's stdin after what was written to it. The shim holds
// the FIFO open too, so that a client may come back, and has to be told.
func (ps *Process) CloseStdin(ctx context.Context) error {
	if ps.Stdin == nil {
		return nil
	}
	err := ps.Stdin.Close()
	_, errShim := ps.e.client.TaskService().CloseIO(ps.e.in(ctx), &tasks.CloseIORequest{
		ContainerID: ps.program.Sandbox, ExecID: ps.program.ID, Stdin: true,
	})
	return errors.Join(err, join(errShim))
}

// Release ends the program if it runs and removes every trace of it.
func (ps *Process) Release(ctx context.Context) error {
	err := ps.e.removeExec(ps.e.in(ctx), ps.program.Sandbox, ps.program.ID)
	return errors.Join(err, ps.close())
}

func (ps *Process) close() error {
	ps.cancel()
	for _, c := range []io.Closer{ps.Stdin, ps.Stdout, ps.Stderr} {
		if c != nil {
			_ = c.Close() // a FIFO that nobody opened says so; it is removed anyway
		}
	}
	return os.RemoveAll(ps.dir)
}

func (e *Engine) removeExec(ctx context.Context, id, exec string) error {
	remove := &tasks.DeleteProcessRequest{ContainerID: id, ExecID: exec}
	_, err := e.client.TaskService().DeleteProcess(ctx, remove)
	if gone(err) == nil {
		return nil
	}
	_, errKill := e.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, ExecID: exec, Signal: uint32(syscall.SIGKILL)})
	if gone(errKill) == nil {
		waiting, cancel := context.WithTimeout(ctx, killWait)
		defer cancel()
		_, _ = e.client.TaskService().Wait(waiting, &tasks.WaitRequest{ContainerID: id, ExecID: exec}) // Delete tells
	}
	_, err = e.client.TaskService().DeleteProcess(ctx, remove)
	if err := gone(err); err != nil && !errdefs.IsUnavailable(err) {
		return fmt.Errorf("remove exec %s: %w", exec, err)
	}
	return nil
}

// RemoveExecs ends the programs that an earlier brigd ran and did not see the end
// of: their clients are gone with it.
func (e *Engine) RemoveExecs(ctx context.Context) error {
	sandboxes, err := os.ReadDir(e.execDir)
	if err != nil {
		return fmt.Errorf("look for left execs: %w", err)
	}
	var errs []error
	for _, s := range sandboxes {
		execs, err := os.ReadDir(filepath.Join(e.execDir, s.Name()))
		errs = append(errs, err)
		for _, x := range execs {
			errs = append(errs, e.removeExec(e.in(ctx), s.Name(), x.Name()))
		}
		errs = append(errs, os.RemoveAll(filepath.Join(e.execDir, s.Name())))
	}
	return errors.Join(errs...)
}
