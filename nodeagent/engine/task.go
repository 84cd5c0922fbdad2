package engine

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
)

// Start starts the program. The shim's gate stands before it: an error says why the
// sandbox's policy could not be put in force, or what the program lacks.
func (e *Engine) Start(ctx context.Context, s Sandbox) error {
	_, err := e.client.TaskService().Start(e.in(ctx), &tasks.StartRequest{ContainerID: s.ID})
	if err != nil {
		return programFault(s.Argv, native(err))
	}
	return nil
}

// Wait returns when the sandbox's program has ended, with its status.
func (e *Engine) Wait(ctx context.Context, id string) (status int, at time.Time, err error) {
	r, err := e.client.TaskService().Wait(e.in(ctx), &tasks.WaitRequest{ContainerID: id})
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("wait for %s: %w", id, native(err))
	}
	return int(r.ExitStatus), endedAt(r.ExitedAt.AsTime()), nil
}

// endedAt replaces a time that the shim does not know.
func endedAt(at time.Time) time.Time {
	if at.Unix() <= 0 {
		return time.Now()
	}
	return at
}

// Kill sends a signal to the sandbox's program; SIGKILL to everything in it.
func (e *Engine) Kill(ctx context.Context, id string, signal syscall.Signal) error {
	_, err := e.client.TaskService().Kill(e.in(ctx), &tasks.KillRequest{
		ContainerID: id,
		Signal:      uint32(signal),
		All:         signal == syscall.SIGKILL,
	})
	if err != nil {
		return fmt.Errorf("send signal %d to %s: %w", signal, id, native(err))
	}
	return nil
}

// Resize tells the sandbox's program the size of its terminal.
func (e *Engine) Resize(ctx context.Context, id string, columns, rows uint16) error {
	_, err := e.client.TaskService().ResizePty(e.in(ctx), &tasks.ResizePtyRequest{
		ContainerID: id, Width: uint32(columns), Height: uint32(rows),
	})
	if err != nil {
		return fmt.Errorf("resize the terminal of %s: %w", id, native(err))
	}
	return nil
}
