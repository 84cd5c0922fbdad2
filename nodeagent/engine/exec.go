package engine

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"brig/internal/execution"
	"brig/nodeagent/clock"
)

// Program is what to run beside a sandbox's own.
type Program struct {
	Sandbox string
	ID      string // unique in the sandbox
	Argv    []string
	Env     map[string]string
	Workdir string // empty: the sandbox's
	TTY     bool
	// Columns and Rows of the terminal; zero: not known.
	Columns, Rows uint16
	// The streams, by the names under which the shim opens them; empty: none.
	Stdin, Stdout, Stderr string
}

// RunExec starts p, once, in one call that has no effect after execution.Window. One that
// does not come to run is not known afterwards. An ErrNotImplemented: the sandbox's shim is
// an earlier brig's, or was reached too late, or p is wrong. AddExec tells, and StartExec is
// what to go on with.
func (e *Engine) RunExec(ctx context.Context, p Program) error {
	ctx = e.in(ctx)
	process, err := e.process(ctx, p)
	if err != nil {
		return err
	}
	process.Capabilities, process.Rlimits = nil, nil // those of the sandbox's own, which the shim knows
	now, err := clock.Now()
	if err != nil {
		return err
	}
	payload, err := execution.Run{
		ID: p.ID, Until: now + execution.Window, Process: process, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr, Terminal: p.TTY,
	}.Encode()
	if err != nil {
		return fmt.Errorf("encode a program: %w", err)
	}
	err = e.askShim(ctx, p.Sandbox, execution.TypeURL, payload)
	switch {
	case err == nil:
		return nil
	case errdefs.IsInvalidArgument(err), errdefs.IsOutOfRange(err):
		return errdefs.ErrNotImplemented.WithMessage(err.Error())
	}
	return programFault(p.Argv, err)
}

// AddExec makes p known to the sandbox's shim. It can be waited for from then on.
func (e *Engine) AddExec(ctx context.Context, p Program) error {
	ctx = e.in(ctx)
	spec, err := e.process(ctx, p)
	if err != nil {
		return err
	}
	data, err := typeurl.MarshalAnyToProto(spec)
	if err != nil {
		return fmt.Errorf("encode a process: %w", err)
	}
	_, err = e.client.TaskService().Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: p.Sandbox,
		ExecID:      p.ID,
		Terminal:    p.TTY,
		Stdin:       p.Stdin,
		Stdout:      p.Stdout,
		Stderr:      p.Stderr,
		Spec:        data,
	})
	if err != nil {
		return fmt.Errorf("exec: %w", native(err))
	}
	return nil
}

// StartExec starts what AddExec made known, once.
func (e *Engine) StartExec(ctx context.Context, p Program) error {
	_, err := e.client.TaskService().Start(e.in(ctx), &tasks.StartRequest{ContainerID: p.Sandbox, ExecID: p.ID})
	if err != nil {
		return programFault(p.Argv, native(err))
	}
	return nil
}

// process copies of the sandbox's own program what p does not say.
func (e *Engine) process(ctx context.Context, p Program) (*specs.Process, error) {
	own, err := e.ownProcess(ctx, p.Sandbox)
	if err != nil {
		return nil, err
	}
	process := *own
	process.Args, process.Terminal, process.CommandLine, process.ConsoleSize = p.Argv, p.TTY, "", nil
	process.Env = merge(process.Env, environment(p.Env))
	if p.TTY {
		process.Env = merge([]string{"TERM=xterm"}, process.Env)
	}
	if p.TTY && p.Columns > 0 && p.Rows > 0 {
		process.ConsoleSize = &specs.Box{Width: uint(p.Columns), Height: uint(p.Rows)}
	}
	if p.Workdir != "" {
		process.Cwd = p.Workdir
	}
	return &process, nil
}

// ownProcess of a sandbox never changes, so it is asked for once: an exec is not to wait
// for another answer of containerd.
func (e *Engine) ownProcess(ctx context.Context, id string) (*specs.Process, error) {
	e.mu.Lock()
	known := e.processes[id]
	e.mu.Unlock()
	if known != nil {
		return known, nil
	}
	c, err := e.client.ContainerService().Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("look for container: %w", native(err))
	}
	var spec specs.Spec
	if err := typeurl.UnmarshalTo(c.Spec, &spec); err != nil {
		return nil, fmt.Errorf("read the container's spec: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.processes[id] = spec.Process
	return spec.Process, nil
}

func (e *Engine) forgetProcess(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.processes, id)
}
