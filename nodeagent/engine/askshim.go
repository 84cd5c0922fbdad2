package engine

import (
	"context"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"google.golang.org/protobuf/types/known/anypb"
)

// askShim asks a sandbox's shim for what containerd has no call for. containerd hands the
// payload of the Task API's Update on unread; a shim that does not know the url refuses it.
func (e *Engine) askShim(ctx context.Context, id, url string, payload []byte) error {
	_, err := e.client.TaskService().Update(ctx, &tasks.UpdateTaskRequest{
		ContainerID: id, Resources: &anypb.Any{TypeUrl: url, Value: payload},
	})
	return native(err)
}
