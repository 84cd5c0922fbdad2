package engine

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/typeurl/v2"
)

// Checkpoint has the shim write the whole sandbox into dir, which must not exist. The
// sandbox goes on as it was, paused or not, and so it does after an error.
func (e *Engine) Checkpoint(ctx context.Context, id, dir string) error {
	// With a path containerd neither copies nor compresses the image.
	o, err := typeurl.MarshalAnyToProto(&options.CheckpointOptions{ImagePath: dir})
	if err != nil {
		return fmt.Errorf("encode checkpoint options: %w", err)
	}
	if _, err := e.client.TaskService().Checkpoint(e.in(ctx), &tasks.CheckpointTaskRequest{ContainerID: id, Options: o}); err != nil {
		return fmt.Errorf("checkpoint %s: %w", id, native(err))
	}
	return nil
}

// restored has a task go on from an image instead of starting its program.
func restored(dir string) containerd.NewTaskOpts {
	return func(_ context.Context, _ *containerd.Client, info *containerd.TaskInfo) error {
		if dir != "" {
			info.Options = &options.Options{CriuImagePath: dir}
		}
		return nil
	}
}
