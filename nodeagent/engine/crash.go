package engine

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/types/known/anypb"

	"brig/internal/sandbox"
)

// Crashed tells of a sandbox that has ended whether its kernel died, instead of its
// program. Its shim knows until the sandbox is removed; one of an earlier brig's does not,
// and then the answer is no.
func (e *Engine) Crashed(ctx context.Context, id string) (bool, error) {
	_, err := e.client.TaskService().Update(e.in(ctx), &tasks.UpdateTaskRequest{
		ContainerID: id, Resources: &anypb.Any{TypeUrl: sandbox.AskCrashed},
	})
	switch err = native(err); {
	case err == nil:
		return true, nil
	case errdefs.IsFailedPrecondition(err), errdefs.IsInvalidArgument(err):
		return false, nil
	}
	return false, fmt.Errorf("ask whether the kernel of %s died: %w", id, err)
}
