package engine

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
)

// ExecAdded tells that a program is known and was not started, or that its start is
// under way. One that is not known at all is an ErrNotFound.
func (e *Engine) ExecAdded(ctx context.Context, sandbox, exec string) (bool, error) {
	r, err := e.client.TaskService().Get(e.in(ctx), &tasks.GetRequest{ContainerID: sandbox, ExecID: exec})
	if err != nil {
		return false, fmt.Errorf("look for exec %s: %w", exec, native(err))
	}
	return r.GetProcess().GetStatus() == tasktypes.Status_CREATED, nil
}

// WaitExec returns a program's status once it has ended and all it wrote was delivered.
func (e *Engine) WaitExec(ctx context.Context, sandbox, exec string) (status int, at time.Time, err error) {
	r, err := e.client.TaskService().Wait(e.in(ctx), &tasks.WaitRequest{ContainerID: sandbox, ExecID: exec})
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("wait for exec %s: %w", exec, native(err))
	}
	return int(r.ExitStatus), endedAt(r.ExitedAt.AsTime()), nil
}

// KillExec sends a signal to a program. One that has ended is an ErrNotFound.
func (e *Engine) KillExec(ctx context.Context, sandbox, exec string, signal syscall.Signal) error {
	_, err := e.client.TaskService().Kill(e.in(ctx), &tasks.KillRequest{ContainerID: sandbox, ExecID: exec, Signal: uint32(signal)})
	if err != nil {
		return fmt.Errorf("send signal %d to exec %s: %w", signal, exec, native(err))
	}
	return nil
}

// ResizeExec tells a program the size of its terminal.
func (e *Engine) ResizeExec(ctx context.Context, sandbox, exec string, columns, rows uint16) error {
	_, err := e.client.TaskService().ResizePty(e.in(ctx), &tasks.ResizePtyRequest{
		ContainerID: sandbox, ExecID: exec, Width: uint32(columns), Height: uint32(rows),
	})
	if err != nil {
		return fmt.Errorf("resize the terminal of exec %s: %w", exec, native(err))
	}
	return nil
}

// ForgetExec removes a program that has ended, or was not started. One that runs is an
// ErrFailedPrecondition.
func (e *Engine) ForgetExec(ctx context.Context, sandbox, exec string) error {
	_, err := e.client.TaskService().DeleteProcess(e.in(ctx), &tasks.DeleteProcessRequest{ContainerID: sandbox, ExecID: exec})
	if err != nil {
		return fmt.Errorf("forget exec %s: %w", exec, native(err))
	}
	return nil
}
