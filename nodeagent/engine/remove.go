package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
)

// killWait is how long a task may take to die of SIGKILL.
const killWait = 15 * time.Second

// Remove takes everything of a sandbox out of containerd, ending it first if it
// runs. What is not there is no error.
func (e *Engine) Remove(ctx context.Context, id string) error {
	ctx = e.in(ctx)
	e.forgetProcess(id)
	if err := e.removeTask(ctx, id); err != nil {
		return err // what the task may still use stays
	}
	failpoint.Hit("remove.task")
	errContainer := join(e.client.ContainerService().Delete(ctx, id))
	failpoint.Hit("remove.container")
	errSnapshot := join(e.client.SnapshotService(snapshotter).Remove(ctx, id))
	failpoint.Hit("remove.snapshot")
	return errors.Join(errContainer, errSnapshot)
}

// removeTask returns once neither a task nor a shim is left.
func (e *Engine) removeTask(ctx context.Context, id string) error {
	_, err := e.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	switch {
	case err == nil:
		return nil
	case gone(err) == nil:
		return e.awaitShim(ctx, id)
	}
	return e.endTask(ctx, id)
}

// endTask kills a task and removes it.
func (e *Engine) endTask(ctx context.Context, id string) error {
	_, err := e.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(syscall.SIGKILL), All: true})
	if gone(err) != nil && !errdefs.IsFailedPrecondition(native(err)) {
		return fmt.Errorf("end task %s: %w", id, native(err))
	}
	waiting, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	if _, err := e.client.TaskService().Wait(waiting, &tasks.WaitRequest{ContainerID: id}); gone(err) != nil {
		return fmt.Errorf("wait for the end of task %s: %w", id, native(err))
	}
	if _, err := e.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id}); gone(err) != nil {
		return fmt.Errorf("remove task %s: %w", id, native(err))
	}
	return nil
}

// Names returns the names of all containers and writable layers in brigd's namespace: the
// ids of sandboxes, and what else is there.
func (e *Engine) Names(ctx context.Context) (map[string]bool, error) {
	ctx = e.in(ctx)
	names := map[string]bool{}
	list, err := e.client.ContainerService().List(ctx)
	for _, c := range list {
		names[c.ID] = true
	}
	errWalk := e.client.SnapshotService(snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindActive {
			names[info.Name] = true
		}
		return nil
	})
	return names, errors.Join(native(err), native(errWalk))
}

// RemoveAll takes every container of every namespace out of containerd: the end of a
// throwaway node, whose containerd serves nobody else.
func (e *Engine) RemoveAll(ctx context.Context) error {
	all, err := e.client.NamespaceService().List(ctx)
	errs := []error{native(err)}
	for _, ns := range all {
		in := namespaces.WithNamespace(ctx, ns)
		list, err := e.client.ContainerService().List(in)
		errs = append(errs, native(err))
		for _, c := range list {
			errs = append(errs, e.removeTask(in, c.ID))
			container, err := e.client.LoadContainer(in, c.ID)
			if err == nil {
				err = container.Delete(in, containerd.WithSnapshotCleanup)
			}
			errs = append(errs, gone(err))
		}
	}
	return errors.Join(errs...)
}
