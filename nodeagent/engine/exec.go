package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/containerd/containerd/api/services/tasks/v1"
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
