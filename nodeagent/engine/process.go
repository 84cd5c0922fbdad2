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
)

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
