package engine

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
)

// Pause freezes every process of a running sandbox. One that does not run, or is paused,
// is an ErrFailedPrecondition.
func (e *Engine) Pause(ctx context.Context, id string) error {
	if _, err := e.client.TaskService().Pause(e.in(ctx), &tasks.PauseTaskRequest{ContainerID: id}); err != nil {
		return fmt.Errorf("pause %s: %w", id, native(err))
	}
	return nil
}

// Resume lets a paused sandbox go on. One that is not paused is an ErrFailedPrecondition.
func (e *Engine) Resume(ctx context.Context, id string) error {
	if _, err := e.client.TaskService().Resume(e.in(ctx), &tasks.ResumeTaskRequest{ContainerID: id}); err != nil {
		return fmt.Errorf("resume %s: %w", id, native(err))
	}
	return nil
}

// Paused tells what the shim knows.
func (e *Engine) Paused(ctx context.Context, id string) (bool, error) {
	r, err := e.client.TaskService().Get(e.in(ctx), &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return false, fmt.Errorf("look whether %s is paused: %w", id, native(err))
	}
	return r.GetProcess().GetStatus() == tasktypes.Status_PAUSED, nil
}
