package engine

import (
	"context"
	"errors"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// Living returns what has a task, as namespace/id: in brigd's namespace, or in all.
func (e *Engine) Living(ctx context.Context, all bool) ([]string, error) {
	in, err := namespaces.NamespaceRequired(e.in(ctx))
	if err != nil {
		return nil, err
	}
	names := []string{in}
	if all {
		if names, err = e.client.NamespaceService().List(ctx); err != nil {
			return nil, native(err)
		}
	}
	var living []string
	var errs []error
	for _, ns := range names {
		res, err := e.client.TaskService().List(namespaces.WithNamespace(ctx, ns), &tasks.ListTasksRequest{})
		errs = append(errs, native(err))
		for _, t := range res.GetTasks() {
			living = append(living, ns+"/"+t.GetID())
		}
	}
	return living, errors.Join(errs...)
}
